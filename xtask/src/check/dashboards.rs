//! The dashboards against Grafana's own types.
//!
//! Comes in: the chart's dashboards and `tests/dashboards`. Goes out: whether Grafana knows all that they say. Never: a
//! package that `tests/dashboards/package-lock.json` does not name, or a script of one.

use anyhow::Result;

use crate::debian;
use crate::shell::{command, root, run};

/// Installs the compiler and the types, and has the one judge by the other.
pub(super) fn check() -> Result<()> {
    debian::need("npm", "npm")?;
    let npm =
        |arguments: &[&str]| run(command("npm", arguments).current_dir(root().join("tests/dashboards")));
    npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"])?;
    npm(&["run", "--silent", "check"])
}
