//! The dashboards against Grafana's own types, and the page that draws them.
//!
//! Comes in: the chart's dashboards and `tests/dashboards`. Goes out: whether Grafana knows all that they say; a page. Never:
//! a package that `tests/dashboards/package-lock.json` does not name, or a script of one.

use anyhow::Result;

use crate::debian;
use crate::shell::{command, root, run};

/// Has the compiler judge by Grafana's types.
pub(super) fn check() -> Result<()> {
    install()?;
    npm(&["run", "--silent", "check"])
}

/// Makes the page on which Grafana's libraries draw.
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
    // What npm writes when it is done.
    if is_newer("node_modules/.package-lock.json", "package-lock.json") {
        return Ok(());
    }
    npm(&["ci", "--no-audit", "--no-fund", "--prefer-offline"])
}

fn npm(arguments: &[&str]) -> Result<()> {
    run(command("npm", arguments).current_dir(root().join("tests/dashboards")))
}
