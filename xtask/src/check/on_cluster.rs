//! Canopy on a real cluster: its images, its chart, and the tests of `tests/tests/e2e`.

use anyhow::{Result, anyhow};

use super::dashboards;
use crate::binaries::Build;
use crate::cluster::{self, TestCluster};
use crate::shell::{AS_TESTS, CARGO_ENVIRONMENT, own_cargo, run as run_command, run_and_collect};
use crate::{debian, images};

pub(super) use crate::cluster::Kubernetes;

/// The cluster of the tests.
const CLUSTER: &str = "canopy-e2e";
/// More than there are tests: each waits for its turn, and the turns depend on what the others need.
const AT_ONCE: &str = "100";
/// Tests of these modules need the slice of that name: more nodes than one.
const NEEDS_NODES: &str = "availability::nodes";
/// Tells the tests which slice of the long checks runs.
const SLICE: &str = "CANOPY_SLICE";
/// Lines of tests that begin so are figures for people.
const FIGURE: &str = "figure: ";
/// Lines of tests that begin so are the reason of a failure, and are repeated after the output of all tests.
const FAILED: &str = "failed: ";

/// Which tests run, on what.
pub(super) struct Tests<'a> {
    /// The slice of the long checks, or empty.
    pub(super) slice: &'a str,
    pub(super) build: Build,
    pub(super) kubernetes: Kubernetes,
    pub(super) nodes: usize,
    /// Parts of names of tests; all run if there are none.
    pub(super) filters: &'a [&'a str],
}

impl Default for Tests<'_> {
    fn default() -> Self {
        Self { slice: "", build: Build::Quick, kubernetes: Kubernetes::Newest, nodes: 1, filters: &[] }
    }
}

/// What a run of tests reports.
#[derive(Default)]
pub(super) struct Report {
    /// The version of the cluster.
    pub(super) kubernetes: String,
    pub(super) figures: Vec<String>,
}

/// Tests `cargo xtask cluster`.
pub(super) fn tool() -> Result<()> {
    // An interrupted run of the other check leaves its cluster, and these tests need a machine without one.
    cluster::remove(CLUSTER)?;
    cluster::self_test(false)
}

/// The same with an `up` that is killed at several moments, and with three nodes.
pub(super) fn tool_with_killed_ups() -> Result<()> {
    cluster::remove(CLUSTER)?;
    cluster::self_test(true)
}

/// All tests on a new cluster of one node.
pub(super) fn e2e() -> Result<()> {
    run(&Tests::default()).1
}

/// Tests on a new cluster, which is removed afterwards.
pub(super) fn run(tests: &Tests) -> (Report, Result<()>) {
    let mut report = Report::default();
    let mut run = || {
        let cluster = TestCluster::new(CLUSTER, tests.nodes, tests.kubernetes)?;
        report.kubernetes = cluster.version()?;
        let (figures, result) = tests_on(&cluster, tests)?;
        report.figures = figures;
        result
    };
    let result = run();
    (report, result)
}

/// Tests on a cluster that stays up, whose names contain one of `filters`.
pub(super) fn some(filters: &[String]) -> Result<()> {
    let cluster = TestCluster::kept(CLUSTER)?;
    // An installed Canopy keeps the images that it was started from.
    let uninstall = ["uninstall", "canopy", "--namespace", "canopy-system", "--ignore-not-found", "--wait"];
    run_command(&mut cluster.command("helm", uninstall))?;
    let filters: Vec<_> = filters.iter().map(String::as_str).collect();
    tests_on(&cluster, &Tests { filters: &filters, ..Tests::default() })?.1
}

/// Builds what the tests need and runs them; the figures that they print, and whether they passed.
fn tests_on(cluster: &TestCluster, tests: &Tests) -> Result<(Vec<String>, Result<()>)> {
    debian::need("pg_ctlcluster", "postgresql")?;
    debian::need("promtool", "prometheus")?;
    dashboards::make_page()?;
    // The old builder pulls nothing.
    let images = images::build(tests.build, |arguments| {
        let mut docker = cluster.command("docker", arguments);
        docker.env("DOCKER_BUILDKIT", "0");
        docker
    })?;
    cluster.load(&images)?;
    if tests.slice == "dist" {
        cluster::build_backends()?;
    }
    run_command(&mut cluster.command("charts/render", ["--check"]))?;
    // The whole workspace, so that the features are those of the check of all other tests.
    let words = ["test", "--locked", "--workspace", "--features", "canopy-tests/cluster", "--test", "e2e"];
    let words = words.iter().chain(&AS_TESTS).chain(&["--", "--test-threads", AT_ONCE, "--show-output"]);
    let mut command = cluster.command(own_cargo(), words);
    command.args(tests.filters).env(SLICE, tests.slice);
    if tests.slice != "nodes" {
        command.args(["--skip", NEEDS_NODES]);
    }
    // Each error names what was done and where; a backtrace below each would hide that.
    command.env("RUST_BACKTRACE", "0").envs(CARGO_ENVIRONMENT);
    let (lines, result) = run_and_collect(&mut command, &[FIGURE, FAILED]);
    let of = |prefix: &str| -> Vec<_> {
        lines.iter().filter_map(|line| line.strip_prefix(prefix)).map(|rest| rest.trim().to_owned()).collect()
    };
    let result = result.map_err(|error| anyhow!("{error:#}\n{}", of(FAILED).join("\n")));
    Ok((of(FIGURE), result))
}
