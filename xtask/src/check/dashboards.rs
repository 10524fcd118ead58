//! The chart's dashboards against Grafana's own types, and the page that draws them with Grafana's libraries.
//!
//! Only packages of `tests/dashboards/package-lock.json` are installed; their scripts do not run.

use anyhow::Result;

use crate::debian;
use crate::shell::{command, root, run};

/// Compiles the dashboards against Grafana's types.
pub(super) fn check() -> Result<()> {
    install()?;
    npm(&["run", "--silent", "check"])
}

/// Builds the page.
pub(super) fn make_page() -> Result<()> {
    debian::need("chromium", "chromium")?;
    install()?;
    npm(&["run", "--silent", "build"])
}

/// Installs packages as they are locked, unless they are there.
fn install() -> Result<()> {
    debian::need("npm", "npm")?;
    let folder = root().join("tests/dashboards");
    let is_newer = |path: &str, than: &str| {
        let changed = |path: &str| folder.join(path).metadata().and_then(|file| file.modified()).ok();
        changed(path) > changed(than)
    };
    // npm writes this file last.
    if is_newer("node_modules/.package-lock.json", "package-lock.json") {
        return Ok(());
    }
    npm(&["ci", "--no-audit", "--no-fund", "--prefer-offline"])
}

fn npm(arguments: &[&str]) -> Result<()> {
    run(command("npm", arguments).current_dir(root().join("tests/dashboards")))
}
