//! The long checks, in slices that each end within 45 minutes. A run appends its result to `tests/full.tsv`.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::needs::{BESIDE_CLUSTER, foresee};
use super::on_cluster::{self, Kubernetes, Tests};
use super::rows::{Row, append, git};
use super::{empty_root, laptop, limit};
use crate::binaries::Build;
use crate::shell::{capture, command};

/// The longest a slice may run.
const LIMIT: Duration = Duration::from_mins(45);
/// Tests under load with faults, on three nodes.
const ON_NODES: &[&str] = &[
    "availability::nodes",
    "availability::restarts",
    "availability::faults",
    "availability::changes",
    "availability::evictions",
];
const SOAK: &[&str] = &["availability::soak", "availability::operators"];
const SCALE: &[&str] = &["operator_cost::"];
/// Beside the main tests.
const DIST: &[&str] = &["monitoring::", "install_from_files::"];
const OLD_KUBERNETES: &[&str] = &[
    "monitoring::",
    "install_from_files::",
    "network_policies::",
    "operator_settings::",
    "availability::restarts",
];

/// A part of the long checks.
pub(super) struct Slice {
    pub(super) name: &'static str,
    pub(super) shows: &'static str,
    /// Seconds on 2 cores in a fresh clone.
    pub(super) budget: u32,
    run: fn(&mut Record) -> Result<()>,
}

/// What a run found.
#[derive(Default)]
struct Record {
    kubernetes: String,
    figures: Vec<String>,
}

/// The end-to-end tests of what Canopy is for.
const MAIN: &[&str] = &[
    "serving::",
    "scaling::",
    "revisions::",
    "failures::",
    "crd_validation::",
    "rbac::",
    "chart_values::",
    "tenants::",
];

pub(super) const SLICES: &[Slice] = &[
    Slice {
        name: "nodes",
        shows: "three nodes, of which one is drained and one is lost; an `up` of a cluster that is killed",
        budget: 2_300,
        run: nodes,
    },
    Slice {
        name: "soak",
        shows: "20 minutes of faults under load; operators killed at many moments",
        budget: 2_600,
        run: soak,
    },
    Slice {
        name: "scale",
        shows: "1,000 models; ten idle minutes beside 2,000 ConfigMaps",
        budget: 2_600,
        run: scale,
    },
    Slice {
        name: "dist",
        shows: "images as they are distributed, with their sizes; the README's first command; Jaeger; discovery by Prometheus",
        budget: 2_600,
        run: dist,
    },
    Slice {
        name: "old-kubernetes",
        shows: "the oldest minor version of Kubernetes that the README names",
        budget: 2_300,
        run: old_kubernetes,
    },
];

/// The names of all slices.
pub(super) fn names() -> Vec<&'static str> {
    SLICES.iter().map(|slice| slice.name).collect()
}

/// Runs a slice on a clean tree and appends its row; the exit code says whether it passed.
#[expect(clippy::print_stdout, reason = "people and programs read it")]
pub(super) fn run(name: &str) -> ExitCode {
    let result = SLICES
        .iter()
        .find(|slice| slice.name == name)
        .map_or_else(|| Err(anyhow::anyhow!("{name:?} is not a slice")), recorded_run);
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "people and programs read it")]
fn recorded_run(slice: &'static Slice) -> Result<bool> {
    let commit = clean_commit()?;
    foresee(BESIDE_CLUSTER.iter().copied(), true)?;
    println!("── {}: {}", slice.name, slice.shows);
    let start = Instant::now();
    let record = Arc::new(Mutex::new(Record::default()));
    let of_run = Arc::clone(&record);
    let end = limit::run(LIMIT, move || {
        let mut record = Record::default();
        let result = (slice.run)(&mut record);
        *of_run.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = record;
        result
    });
    let result = match end {
        limit::End::Ended(result) => result,
        limit::End::Stuck(error) => Err(error),
    };
    let seconds = start.elapsed().as_secs();
    match &result {
        Ok(()) => println!("── {} passed in {seconds} s of {} s", slice.name, slice.budget),
        Err(error) => println!("── {} FAILED in {seconds} s: {error:#}", slice.name),
    }
    // The row must be of the code that ran.
    ensure!(clean_commit()? == commit, "another commit was checked out during the run: no row was written");
    let record = std::mem::take(&mut *record.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    append(&Row {
        date: String::from_utf8_lossy(&capture(&mut command("date", ["--utc", "+%F"]))?).trim().to_owned(),
        commit,
        slice: slice.name.to_owned(),
        kubernetes: if record.kubernetes.is_empty() { "-".to_owned() } else { record.kubernetes },
        seconds,
        passed: result.is_ok(),
        figures: record.figures.join("; "),
    })?;
    println!("a row was appended to tests/full.tsv: commit it");
    Ok(result.is_ok())
}

/// The commit that is checked out; an error where a file differs from it. Rows of earlier runs may wait to be committed.
fn clean_commit() -> Result<String> {
    let changes = git(&["status", "--porcelain", "--", ".", ":!tests/full.tsv"])?;
    ensure!(
        changes.is_empty(),
        "the tree has changes, and a row names a commit: commit them first\n{changes}"
    );
    git(&["rev-parse", "HEAD"])
}

fn tests(record: &mut Record, tests: &Tests) -> Result<()> {
    let (outcome, result) = on_cluster::run(tests);
    record.kubernetes = outcome.kubernetes;
    record.figures.extend(outcome.figures);
    result
}

fn nodes(record: &mut Record) -> Result<()> {
    on_cluster::tool_with_killed_ups()?;
    tests(record, &Tests { slice: "nodes", nodes: 3, filters: ON_NODES, ..Tests::default() })
}

fn soak(record: &mut Record) -> Result<()> {
    tests(record, &Tests { slice: "soak", filters: SOAK, ..Tests::default() })
}

fn scale(record: &mut Record) -> Result<()> {
    tests(record, &Tests { slice: "scale", filters: SCALE, ..Tests::default() })
}

fn dist(record: &mut Record) -> Result<()> {
    laptop::first_command_of_the_readme()?;
    record.figures.extend(empty_root::check_distribution()?);
    let filters = [MAIN, DIST].concat();
    tests(record, &Tests { slice: "dist", build: Build::Distribution, filters: &filters, ..Tests::default() })
}

fn old_kubernetes(record: &mut Record) -> Result<()> {
    let filters = [MAIN, OLD_KUBERNETES].concat();
    tests(
        record,
        &Tests {
            slice: "old-kubernetes",
            kubernetes: Kubernetes::Oldest,
            filters: &filters,
            ..Tests::default()
        },
    )
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    /// A filter that matches no test would pass without showing anything.
    #[test]
    fn each_filter_names_a_module_of_the_tests_on_a_cluster() {
        let folder = crate::shell::root().join("tests/tests/e2e");
        for filter in [MAIN, ON_NODES, SOAK, SCALE, DIST, OLD_KUBERNETES].concat() {
            let file = folder.join(filter.trim_end_matches("::").replace("::", "/")).with_extension("rs");
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                text.contains("#[tokio::test") || text.contains("#[test]"),
                "no test in {}",
                file.display()
            );
        }
    }

    #[test]
    fn each_slice_fits_into_45_minutes_and_has_a_name_of_its_own() {
        for slice in SLICES {
            assert!(Duration::from_secs(slice.budget.into()) <= LIMIT, "{}", slice.name);
            assert_eq!(SLICES.iter().filter(|other| other.name == slice.name).count(), 1, "{}", slice.name);
        }
    }
}
