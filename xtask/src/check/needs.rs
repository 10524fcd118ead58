//! What checks need of this machine, looked for before the first one runs.

use anyhow::{Result, ensure};

use super::empty_root;
use crate::cluster;
use crate::requirements::Requirement::{self, File, Program};
use crate::requirements::missing;

pub(super) const PROMETHEUS: Requirement = Program("prometheus", "prometheus");
pub(super) const PROMTOOL: Requirement = Program("promtool", "prometheus");
pub(super) const CHROMIUM: Requirement = Program("chromium", "chromium");
pub(super) const NPM: Requirement = Program("npm", "npm");
pub(super) const POSTGRESQL: Requirement = Program("pg_ctlcluster", "postgresql");
pub(super) const CERTIFICATES: Requirement = File(empty_root::CERTIFICATES, "ca-certificates");
/// What the tests on a cluster need beside the cluster.
pub(super) const BESIDE_CLUSTER: &[Requirement] =
    &[POSTGRESQL, PROMETHEUS, PROMTOOL, CHROMIUM, NPM, CERTIFICATES];

/// Fails with everything that the checks need and that is neither here nor can be installed.
pub(super) fn foresee(needs: impl Iterator<Item = Requirement>, on_cluster: bool) -> Result<()> {
    let mut lacking = missing(needs.chain([Program("setpriv", "util-linux")]));
    if on_cluster {
        lacking.extend(cluster::lacking()?);
    }
    ensure!(lacking.is_empty(), "this machine lacks:\n  {}", lacking.join("\n  "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_listed_at_once() {
        let needs = [File("/no/such/a", "a"), File("/no/such/b", "b")];
        // A machine where packages can be installed lacks nothing.
        match foresee(needs.into_iter(), false) {
            Ok(()) => assert!(rustix::process::geteuid().is_root()),
            Err(error) => assert_eq!(
                error.to_string(),
                "this machine lacks:\n  /no/such/a, of the Debian package a\n  /no/such/b, of the Debian package b"
            ),
        }
    }
}
