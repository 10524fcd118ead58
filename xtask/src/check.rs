//! One list of everything that must hold, run one after the other.
//!
//! Comes in: which checks. Goes out: what each prints, its seconds, a table, and one line of counts. Never: a
//! check that is left out unless somebody says so.

mod empty_root;
mod scraping;
mod laptop;
mod browser;
mod dashboards;
mod on_cluster;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::binaries::Build;
use crate::shell::{AS_TESTS, cargo, command, run as run_command};
use crate::{cluster, debian, generated};

/// Which checks to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs only these.
    #[arg(long, conflicts_with = "without_cluster", value_name = "NAME", num_args = 1.., value_parser = PossibleValuesParser::new(CHECKS.map(|c| c.name)))]
    only: Vec<String>,
    /// Leaves out what needs a cluster.
    #[arg(long)]
    without_cluster: bool,
    /// Has `e2e` run its long forms: three nodes, of which one is lost, a soak of 20 minutes, 1,000 models.
    #[arg(long)]
    full: bool,
    /// Prints the names of all checks and what each shows.
    #[arg(long)]
    list: bool,
}

impl Options {
    /// How the programs under test are built.
    fn build(&self) -> Build {
        if self.full { Build::Distribution } else { Build::Quick }
    }
}

/// What needs a cluster.
const ON_CLUSTER: [&str; 2] = ["cluster", "e2e"];

struct Check {
    name: &'static str,
    shows: &'static str,
    run: fn(&Options) -> Result<()>,
}

const CHECKS: [Check; 13] = [
    Check { name: "fmt", shows: "the code is formatted", run: |_| fmt() },
    Check { name: "clippy", shows: "no lint warns", run: |_| clippy() },
    Check { name: "doc", shows: "the documentation of the code builds without warnings", run: |_| doc() },
    Check { name: "test", shows: "every test passes", run: |_| test() },
    Check { name: "laptop", shows: "`canopy up` answers", run: |_| laptop::answers() },
    Check {
        name: "metrics",
        shows: "promtool finds nothing wrong with the metrics, and Prometheus reads them with their exemplars",
        run: |_| laptop::metrics(),
    },
    Check { name: "alerts", shows: "alerts fire when they must, and only then", run: |_| alerts() },
    Check {
        name: "dashboards",
        shows: "Grafana knows all that the dashboards say",
        run: |_| dashboards::check(),
    },
    Check { name: "browser", shows: "the API's pages render, with no other host", run: |_| browser::check() },
    Check { name: "generated", shows: "generated files are what the code says", run: |_| generated::check() },
    Check {
        name: "static",
        shows: "static binaries serve in an empty root; with --full also that they are small",
        run: |options| empty_root::check(options.build()),
    },
    Check {
        name: "cluster",
        shows: "a cluster comes up, and nothing of it is left",
        run: |options| on_cluster::tool(options.build()),
    },
    Check {
        name: "e2e",
        shows: "Canopy on a cluster does what it promises",
        run: |options| on_cluster::e2e(options.build()),
    },
];

/// Runs tests on a cluster that stays up: those whose names have one of `filters` in them, or all.
pub(crate) fn e2e(filters: &[String]) -> Result<()> {
    cluster::foresee()?;
    on_cluster::some(filters)
}

/// Runs the checks that were asked for; the exit code says whether all passed.
#[expect(clippy::print_stdout, reason = "people and programs read it")]
pub(crate) fn run(options: &Options) -> ExitCode {
    let chosen = |check: &&Check| {
        let is_asked_for = options.only.is_empty() || options.only.iter().any(|name| name == check.name);
        is_asked_for && !(options.without_cluster && ON_CLUSTER.contains(&check.name))
    };
    let checks: Vec<_> = CHECKS.iter().filter(chosen).collect();
    if options.list {
        for Check { name, shows, run: _ } in checks {
            println!("{name:<10} {shows}");
        }
        return ExitCode::SUCCESS;
    }
    // Told now, not after an hour of other checks.
    if checks.iter().any(|check| ON_CLUSTER.contains(&check.name))
        && let Err(error) = cluster::foresee()
    {
        println!("{error:#}; --without-cluster leaves out {}", ON_CLUSTER.join(" and "));
        return ExitCode::FAILURE;
    }
    let ended: Vec<_> = checks.into_iter().map(|check| (check.name, one(check, options))).collect();
    println!("\n{:<10} {:>8}  result", "check", "seconds");
    for (name, Ended { took, passed }) in &ended {
        println!("{name:<10} {:>8.1}  {}", took.as_secs_f64(), if *passed { "passed" } else { "FAILED" });
    }
    let failed = ended.iter().filter(|(_, ended)| !ended.passed).count();
    println!("\n{} passed, {failed} failed", ended.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Ended {
    took: Duration,
    passed: bool,
}

#[expect(clippy::print_stdout, reason = "people read it")]
fn one(check: &Check, options: &Options) -> Ended {
    println!("\n── {}: {}", check.name, check.shows);
    let start = Instant::now();
    let result = (check.run)(options);
    let took = start.elapsed();
    match &result {
        Ok(()) => println!("── {} passed in {:.1} s", check.name, took.as_secs_f64()),
        Err(error) => println!("── {} FAILED in {:.1} s: {error:#}", check.name, took.as_secs_f64()),
    }
    Ended { took, passed: result.is_ok() }
}

fn fmt() -> Result<()> {
    run_command(&mut cargo(["fmt", "--all", "--", "--check"]))
}

fn clippy() -> Result<()> {
    let everything = ["clippy", "--workspace", "--all-targets", "--all-features", "--locked"];
    run_command(cargo(everything).args(AS_TESTS).args(["--", "-D", "warnings"]))
}

fn doc() -> Result<()> {
    let all = ["doc", "--workspace", "--no-deps", "--locked"];
    run_command(cargo(all).args(AS_TESTS).env("RUSTDOCFLAGS", "-D warnings"))
}

fn alerts() -> Result<()> {
    debian::need("promtool", "prometheus")?;
    run_command(&mut command("promtool", ["check", "rules", "charts/canopy/files/rules.yaml"]))?;
    run_command(&mut command("promtool", ["test", "rules", "tests/alerts/rules.test.yaml"]))
}

fn test() -> Result<()> {
    // Tests start servers of both kinds, each in a folder of its own.
    debian::need("mariadbd", "mariadb-server")?;
    debian::need("pg_ctlcluster", "postgresql")?;
    run_command(cargo(["test", "--workspace", "--locked"]).args(AS_TESTS))
}
