//! Measures Canopy beside its peers, in one run on one machine.
//!
//! Comes in: a command. Goes out: `results/laptop.json`, and the tables of `README.md` that follow from it. Never: a
//! server that outlives the run.

mod ticker;
mod latency;
mod usage;
mod results;
mod call;
mod client;
mod server;
mod start;
mod load;
mod baseline;
mod subjects;
mod floor;
mod training;
mod drift;
mod metrics;
mod observed;
mod machine;
mod measure;
mod report;
mod arguments;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use arguments::{All, Arguments, Drift, Floor, Observed, Report};
use results::Results;
use subjects::Workplace;

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Baseline(baseline) => {
            let runtime =
                Builder::new_multi_thread().worker_threads(baseline.workers).enable_all().build()?;
            runtime.block_on(baseline::serve(baseline.listen))
        }
        Arguments::Load(load) => {
            let call = subjects::call(load.subject, load.address);
            let found = on_one_thread(load::run(load.subject, &call, load.shape(), load.times(), &[]))?;
            print(&serde_json::to_string_pretty(&found)?);
            Ok(())
        }
        Arguments::Drift(Drift { rounds }) => {
            for cost in drift::measure(rounds.get())? {
                print(&cost.to_string());
            }
            Ok(())
        }
        Arguments::Observed(of) => {
            for found in on_one_thread(until_interrupted(observe(&of)))? {
                print(&found.to_string());
            }
            print(&format!("metrics of a request by themselves: {:.0} ns", metrics::alone()?));
            Ok(())
        }
        Arguments::Floor(floor) => {
            for ratio in on_one_thread(until_interrupted(compare(&floor)))? {
                print(&ratio.to_string());
            }
            Ok(())
        }
        Arguments::Report(report) => write_readme(&report),
        Arguments::All(all) => {
            let results = on_one_thread(until_interrupted(measure_all(&all)))?;
            write(&all.report.results, &(serde_json::to_string_pretty(&results)? + "\n"))?;
            write_readme(&all.report)
        }
    }
}

/// The generator of load runs on one thread and leaves the other processors to what it measures.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

async fn measure_all(all: &All) -> Result<Results> {
    let scratch = scratch()?;
    let workplace = Workplace {
        programs: programs(&all.programs)?,
        baseline: all.baseline()?,
        python: std::path::absolute(&all.python)?,
        scratch: scratch.path().to_owned(),
    };
    measure::everything(&workplace, all.effort()).await
}

async fn compare(floor: &Floor) -> Result<Vec<floor::Ratio>> {
    let scratch = scratch()?;
    let workplace = Workplace {
        programs: programs(&floor.programs)?,
        baseline: floor.baseline()?,
        python: "python3".into(),
        scratch: scratch.path().to_owned(),
    };
    floor::measure(&workplace, floor.times(), floor.rounds.get()).await
}

async fn observe(of: &Observed) -> Result<Vec<observed::Found>> {
    let scratch = scratch()?;
    // No peer is measured, so no Python is asked for.
    let workplace = Workplace {
        programs: programs(&of.programs)?,
        baseline: std::env::current_exe().context("failed to find this program")?,
        python: "python3".into(),
        scratch: scratch.path().to_owned(),
    };
    observed::measure(&workplace, of.times(), of.rounds.get()).await
}

fn scratch() -> Result<TempDir> {
    tempfile::tempdir().context("failed to make a folder for the run")
}

fn programs(folder: &Path) -> Result<PathBuf> {
    fs::canonicalize(folder).context("failed to find the folder of programs")
}

/// Measures; an interruption ends the servers too, since it drops them.
async fn until_interrupted<T>(measuring: impl Future<Output = Result<T>>) -> Result<T> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        results = measuring => results,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("asked to end"),
    }
}

fn write_readme(Report { results, readme }: &Report) -> Result<()> {
    let figures = serde_json::from_str(&read(results)?)
        .with_context(|| format!("failed to understand {}", results.display()))?;
    write(readme, &report::fill(&read(readme)?, &figures)?)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "people and programs read it")]
fn print(text: &str) {
    println!("{text}");
}
