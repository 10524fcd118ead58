//! Canopy on a real cluster: its images, its chart, and the tests that need both.
//!
//! Comes in: the sources. Goes out: the outcome of every test in `tests/tests/e2e`. Never: a cluster that somebody uses
//! for something else, or one that is left behind.

use anyhow::Result;

use super::dashboards;
use crate::cluster::{self, Borrowed};
use crate::shell::{AS_TESTS, own_cargo, run};
use crate::{debian, images};

/// The cluster of the tests.
const CLUSTER: &str = "canopy-e2e";
/// More than there are tests: each waits for its turn, and whose turn it is depends on what the others need.
const AT_ONCE: &str = "100";

/// `cargo xtask cluster` does what it promises.
pub(super) fn tool() -> Result<()> {
    // An interrupted run of the other check leaves its cluster, and a trial wants the machine for itself.
    cluster::remove(CLUSTER)?;
    cluster::try_out()
}

/// Canopy does what it promises, from its images and by its chart; `full` says for how long.
pub(super) fn e2e(full: bool) -> Result<()> {
    debian::need("pg_ctlcluster", "postgresql")?;
    debian::need("promtool", "prometheus")?;
    dashboards::make_page()?;
    // Of two workers one can be lost.
    let cluster = Borrowed::new(CLUSTER, if full { 3 } else { 1 })?;
    // An old builder needs nothing that would have to be pulled.
    let images = images::build(|arguments| {
        let mut docker = cluster.command("docker", arguments);
        docker.env("DOCKER_BUILDKIT", "0");
        docker
    })?;
    cluster.load(&images)?;
    cluster::find_backends()?;
    run(&mut cluster.command("charts/render", ["--check"]))?;
    // Of the whole workspace, so that it stands on what the check of all other tests has built.
    let features = if full { "canopy-tests/full" } else { "canopy-tests/cluster" };
    let words = ["test", "--locked", "--workspace", "--features", features, "--test", "e2e"];
    let words = words.iter().chain(&AS_TESTS).chain(&["--", "--test-threads", AT_ONCE, "--show-output"]);
    let mut tests = cluster.command(own_cargo(), words);
    // Each error names what was done and where; forty frames below each would hide that.
    tests.env("RUST_BACKTRACE", "0");
    if full {
        tests.env("CANOPY_FULL", "yes");
    }
    run(&mut tests)
}
