//! Canopy on a real cluster: its images, its chart, and the tests that need both.
//!
//! Comes in: the sources. Goes out: the outcome of every test in `tests/tests/e2e`. Never: a cluster that somebody uses
//! for something else, or one that is left behind.

use anyhow::Result;

use super::dashboards;
use crate::binaries::Build;
use crate::cluster::{self, Borrowed};
use crate::shell::{AS_TESTS, CARGO_ENVIRONMENT, own_cargo, run};
use crate::{debian, images};

/// The cluster of the tests.
const CLUSTER: &str = "canopy-e2e";
/// More than there are tests: each waits for its turn, and whose turn it is depends on what the others need.
const AT_ONCE: &str = "100";

/// `cargo xtask cluster` does what it promises.
pub(super) fn tool(build: Build) -> Result<()> {
    // An interrupted run of the other check leaves its cluster, and a trial wants the machine for itself.
    cluster::remove(CLUSTER)?;
    cluster::try_out(build == Build::Distribution)
}

/// Canopy does what it promises, from its images and by its chart.
pub(super) fn e2e(build: Build) -> Result<()> {
    // What an interrupted run left of its cluster is no ground for another. Of two workers one can be lost.
    let nodes = if build == Build::Distribution { 3 } else { 1 };
    tests_on(&Borrowed::new(CLUSTER, nodes)?, build, &[])
}

/// The same on a cluster that stays up, for those tests whose names have one of `filters` in them.
pub(crate) fn some(filters: &[String]) -> Result<()> {
    let cluster = Borrowed::kept(CLUSTER, 1)?;
    // An installed Canopy goes on with the images that it was started from.
    let uninstall = ["uninstall", "canopy", "--namespace", "canopy-system", "--ignore-not-found", "--wait"];
    run(&mut cluster.command("helm", uninstall))?;
    tests_on(&cluster, Build::Quick, filters)
}

fn tests_on(cluster: &Borrowed, build: Build, filters: &[String]) -> Result<()> {
    debian::need("pg_ctlcluster", "postgresql")?;
    debian::need("promtool", "prometheus")?;
    dashboards::make_page()?;
    // An old builder needs nothing that would have to be pulled.
    let images = images::build(build, |arguments| {
        let mut docker = cluster.command("docker", arguments);
        docker.env("DOCKER_BUILDKIT", "0");
        docker
    })?;
    cluster.load(&images)?;
    if build == Build::Distribution {
        cluster::find_backends()?;
    }
    run(&mut cluster.command("charts/render", ["--check"]))?;
    // Of the whole workspace, so that it stands on what the check of all other tests has built.
    let features = if build == Build::Distribution { "canopy-tests/full" } else { "canopy-tests/cluster" };
    let words = ["test", "--locked", "--workspace", "--features", features, "--test", "e2e"];
    let words = words.iter().chain(&AS_TESTS).chain(&["--", "--test-threads", AT_ONCE, "--show-output"]);
    let mut tests = cluster.command(own_cargo(), words);
    tests.args(filters);
    // Each error names what was done and where; forty frames below each would hide that.
    tests.env("RUST_BACKTRACE", "0").envs(CARGO_ENVIRONMENT);
    run(&mut tests)
}
