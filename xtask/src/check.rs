//! The list of checks, which run one after the other; each has a budget of time.

mod limit;
mod rows;
mod empty_root;
mod scraping;
mod laptop;
mod browser;
mod dashboards;
mod on_cluster;
mod needs;
mod slices;
mod recorded;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use needs::{BESIDE_CLUSTER, CERTIFICATES, CHROMIUM, NPM, POSTGRESQL, PROMETHEUS, PROMTOOL, foresee};

use crate::binaries::tests_are_built;
use crate::requirements::Requirement::{self, Program};
use crate::shell::{AS_TESTS, cargo, command, run as run_command};
use crate::{debian, generated};

/// Which checks to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs only these checks.
    #[arg(long, conflicts_with = "without_cluster", value_name = "NAME", num_args = 1.., value_parser = PossibleValuesParser::new(CHECKS.map(|c| c.name)))]
    only: Vec<String>,
    /// Leaves out the checks that need a cluster.
    #[arg(long)]
    without_cluster: bool,
    /// Runs a slice of the long checks instead, which appends its result to `tests/full.tsv`.
    #[arg(long, conflicts_with_all = ["without_cluster", "only"], value_name = "SLICE", value_parser = PossibleValuesParser::new(slices::names()))]
    full: Option<String>,
    /// Prints the names of all checks and slices with their budgets in seconds and what each shows.
    #[arg(long)]
    list: bool,
}

/// The checks that need a cluster.
const ON_CLUSTER: [&str; 2] = ["cluster", "e2e"];
/// A check that takes more than this many times its budget fails.
const OVER_BUDGET: f64 = 1.3;
/// A check that runs for this many times its budget is ended, but not before `LIMIT_MIN`.
const LIMIT: u32 = 2;
const LIMIT_MIN: Duration = Duration::from_mins(2);

struct Check {
    name: &'static str,
    shows: &'static str,
    /// Seconds on 2 cores in a fresh clone, when all checks run in their order.
    budget: u32,
    /// The same once all that is planned has been added: more formats, keys, caches, canaries, a console.
    planned: u32,
    needs: &'static [Requirement],
    run: fn() -> Result<()>,
}

const CHECKS: [Check; 14] = [
    Check { name: "fmt", shows: "the code is formatted", budget: 10, planned: 10, needs: &[], run: fmt },
    Check {
        name: "recorded",
        shows: "the slices of the long checks passed not too long ago",
        budget: 5,
        planned: 5,
        needs: &[Program("git", "git")],
        run: recorded::check,
    },
    Check { name: "clippy", shows: "no lint warns", budget: 170, planned: 270, needs: &[], run: clippy },
    Check {
        name: "doc",
        shows: "the documentation of the code builds without warnings",
        budget: 50,
        planned: 60,
        needs: &[],
        run: doc,
    },
    Check {
        name: "test",
        shows: "every test passes",
        budget: 540,
        planned: 900,
        needs: &[Program("mariadbd", "mariadb-server"), POSTGRESQL],
        run: test,
    },
    Check {
        name: "laptop",
        shows: "`canopy up` answers",
        budget: 80,
        planned: 110,
        needs: &[],
        run: laptop::answers,
    },
    Check {
        name: "metrics",
        shows: "promtool accepts the metrics, and Prometheus reads them with their exemplars",
        budget: 20,
        planned: 25,
        needs: &[PROMTOOL, PROMETHEUS],
        run: laptop::metrics,
    },
    Check {
        name: "alerts",
        shows: "each alert fires in its case and in no other",
        budget: 20,
        planned: 20,
        needs: &[PROMTOOL],
        run: alerts,
    },
    Check {
        name: "dashboards",
        shows: "the dashboards agree with Grafana's own types",
        budget: 40,
        planned: 90,
        needs: &[NPM],
        run: dashboards::check,
    },
    Check {
        name: "browser",
        shows: "the API's pages render, without requests to other hosts",
        budget: 25,
        planned: 60,
        needs: &[CHROMIUM],
        run: browser::check,
    },
    Check {
        name: "generated",
        shows: "generated files agree with the code",
        budget: 15,
        planned: 15,
        needs: &[],
        run: generated::check,
    },
    Check {
        name: "static",
        shows: "static binaries serve in an empty root",
        budget: 50,
        planned: 80,
        needs: &[CERTIFICATES, Program("chroot", "coreutils")],
        run: empty_root::check,
    },
    Check {
        name: "cluster",
        shows: "a cluster comes up, and nothing is left of it",
        budget: 450,
        planned: 520,
        needs: &[],
        run: on_cluster::tool,
    },
    Check {
        name: "e2e",
        shows: "Canopy works on a cluster as its documentation says",
        budget: 900,
        planned: 1_900,
        needs: BESIDE_CLUSTER,
        run: on_cluster::e2e,
    },
];

/// Runs tests on a cluster that stays up: those whose names contain one of `filters`, or all.
pub(crate) fn e2e(filters: &[String]) -> Result<()> {
    foresee(BESIDE_CLUSTER.iter().copied(), true)?;
    on_cluster::some(filters)
}

/// Runs the checks that were chosen; the exit code says whether all passed.
#[expect(clippy::print_stdout, reason = "people and programs read it")]
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    if let Some(name) = &options.full {
        return slices::run(name);
    }
    let chosen = |check: &&Check| {
        let is_named = options.only.is_empty() || options.only.iter().any(|name| name == check.name);
        is_named && !(options.without_cluster && ON_CLUSTER.contains(&check.name))
    };
    let checks: Vec<_> = CHECKS.iter().filter(chosen).collect();
    // Before an hour of other checks.
    let on_cluster = checks.iter().any(|check| ON_CLUSTER.contains(&check.name));
    if let Err(error) = foresee(checks.iter().flat_map(|check| check.needs).copied(), on_cluster) {
        println!("{error:#}\n--without-cluster leaves out {}", ON_CLUSTER.join(" and "));
        return ExitCode::FAILURE;
    }
    let mut ended = Vec::new();
    for check in checks {
        let end = one(check);
        let stuck = end.stuck;
        ended.push(end);
        if stuck {
            println!("the checks after {} were not run: it cannot be ended", check.name);
            break;
        }
    }
    table(&ended)
}

#[expect(clippy::print_stdout, reason = "people and programs read it")]
fn list() {
    println!("{:<16} {:>7} {:>8}  shows", "check", "budget", "planned");
    for Check { name, shows, budget, planned, .. } in &CHECKS {
        println!("{name:<16} {budget:>7} {planned:>8}  {shows}");
    }
    println!("\n{:<16} {:>7} {:>8}  shows", "--full=SLICE", "budget", "");
    for slice in slices::SLICES {
        println!("{:<16} {:>7} {:>8}  {}", slice.name, slice.budget, "", slice.shows);
    }
}

struct Ended {
    check: &'static Check,
    took: Duration,
    passed: bool,
    stuck: bool,
}

impl Ended {
    fn over_budget(&self) -> bool {
        self.took.as_secs_f64() > OVER_BUDGET * f64::from(self.check.budget)
    }

    fn result(&self) -> &'static str {
        match (self.passed, self.over_budget()) {
            (true, false) => "passed",
            (true, true) => "OVER BUDGET",
            (false, _) => "FAILED",
        }
    }
}

#[expect(clippy::print_stdout, reason = "people and programs read it")]
fn table(ended: &[Ended]) -> ExitCode {
    println!("\n{:<10} {:>8} {:>8}  result", "check", "seconds", "budget");
    for end in ended {
        let Check { name, budget, .. } = end.check;
        println!("{name:<10} {:>8.1} {budget:>8}  {}", end.took.as_secs_f64(), end.result());
    }
    let failed = ended.iter().filter(|end| !end.passed).count();
    let over = ended.iter().filter(|end| end.passed && end.over_budget()).count();
    println!("\n{} passed, {failed} failed, {over} over budget", ended.len() - failed - over);
    if failed + over == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "people read it")]
fn one(check: &'static Check) -> Ended {
    println!("\n── {}: {}", check.name, check.shows);
    let start = Instant::now();
    let limit = LIMIT_MIN.max(LIMIT * Duration::from_secs(check.budget.into()));
    let (result, stuck) = match limit::run(limit, check.run) {
        limit::End::Ended(result) => (result, false),
        limit::End::Stuck(error) => (Err(error), true),
    };
    let ended = Ended { check, took: start.elapsed(), passed: result.is_ok(), stuck };
    let Check { name, budget, .. } = check;
    let seconds = ended.took.as_secs_f64();
    match &result {
        Ok(()) if ended.over_budget() => {
            println!("── {name} OVER BUDGET: it took {seconds:.1} s, its budget is {budget} s");
        }
        Ok(()) => println!("── {name} passed in {seconds:.1} s of {budget} s"),
        Err(error) => println!("── {name} FAILED in {seconds:.1} s: {error:#}"),
    }
    ended
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
    run_command(cargo(["test", "--workspace", "--locked"]).args(AS_TESTS))?;
    tests_are_built();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds to compile this crate in a fresh clone.
    const OWN_BUILD: u32 = 25;

    #[test]
    fn the_budgets_of_all_checks_add_up_to_40_minutes_and_to_75_with_all_that_is_planned() {
        let minutes = |seconds: u32| f64::from(seconds) / 60.0;
        let today = minutes(OWN_BUILD + CHECKS.iter().map(|check| check.budget).sum::<u32>());
        let planned = minutes(OWN_BUILD + CHECKS.iter().map(|check| check.planned).sum::<u32>());
        assert!(today <= 40.0, "the budgets of today are {today:.1} minutes");
        assert!(planned <= 75.0, "the budgets with all that is planned are {planned:.1} minutes");
        for check in &CHECKS {
            assert!(check.budget <= check.planned, "{} shrinks", check.name);
        }
    }

    #[test]
    fn more_than_1_3_times_the_budget_fails_a_check_that_passed() {
        let result = |seconds, passed| {
            let took = Duration::from_secs_f64(seconds);
            Ended { check: &CHECKS[0], took, passed, stuck: false }.result()
        };
        assert_eq!(CHECKS[0].budget, 10);
        assert_eq!(result(13.0, true), "passed");
        assert_eq!(result(13.1, true), "OVER BUDGET");
        assert_eq!(result(13.1, false), "FAILED");
    }
}
