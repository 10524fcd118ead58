//! Measures Canopy and other servers in one run on one machine, and writes the tables of `README.md`.
//!
//! No server outlives the run.

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
mod training;
mod drift;
mod metrics;
mod observed;
mod machine;
mod floor;
mod models;
mod measure;
mod report;
mod model_report;
mod arguments;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use arguments::{All, Arguments, Drift, Floor, Model, Models, Observed, Report};
use results::{FloorResults, ModelResults, Results};
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
            print(&format!("metrics of a request alone: {:.0} ns", metrics::alone()?));
            Ok(())
        }
        Arguments::Floor(floor) => {
            let results = on_one_thread(until_interrupted(compare(&floor)))?;
            write(&floor.report.floor_results, &(serde_json::to_string_pretty(&results)? + "\n"))?;
            write_ratios(&floor.report)
        }
        Arguments::Models(of) => {
            let results = measure_models(&of)?;
            write(&of.report.model_results, &(serde_json::to_string_pretty(&results)? + "\n"))?;
            write_models(&of.report)
        }
        Arguments::Model(Model { file, rows, write }) => {
            let found = models::one(&file, rows.as_deref(), write.as_deref())?;
            print(&serde_json::to_string(&found)?);
            Ok(())
        }
        Arguments::Report(report) => {
            write_tables(&report)?;
            if report.floor_results.exists() {
                write_ratios(&report)?;
            }
            if report.model_results.exists() { write_models(&report) } else { Ok(()) }
        }
        Arguments::All(all) => {
            let results = on_one_thread(until_interrupted(measure_all(&all)))?;
            write(&all.report.results, &(serde_json::to_string_pretty(&results)? + "\n"))?;
            write_tables(&all.report)
        }
    }
}

/// The load generator has one thread, so that the other processors are free for the servers.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

async fn measure_all(all: &All) -> Result<Results> {
    let scratch = scratch()?;
    let workplace = Workplace {
        programs: programs(&all.programs)?,
        python: std::path::absolute(&all.python)?,
        scratch: scratch.path().to_owned(),
    };
    measure::everything(&workplace, all.effort()).await
}

async fn compare(floor: &Floor) -> Result<FloorResults> {
    let scratch = scratch()?;
    let workplace = Workplace {
        programs: programs(&floor.programs)?,
        python: "python3".into(),
        scratch: scratch.path().to_owned(),
    };
    floor::measure(&workplace, floor.times(), floor.rounds.get()).await
}

fn measure_models(of: &Models) -> Result<ModelResults> {
    let scratch = scratch()?;
    // Canopy's programs are not measured.
    let workplace = Workplace {
        programs: PathBuf::new(),
        python: std::path::absolute(&of.python)?,
        scratch: scratch.path().to_owned(),
    };
    models::measure(&workplace, of.rounds.get())
}

async fn observe(of: &Observed) -> Result<Vec<observed::Found>> {
    let scratch = scratch()?;
    // Python is not measured.
    let workplace = Workplace {
        programs: programs(&of.programs)?,
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

/// Runs a measurement until a signal, which drops the measurement and so ends its servers.
async fn until_interrupted<T>(measuring: impl Future<Output = Result<T>>) -> Result<T> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        results = measuring => results,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

fn write_tables(Report { results, readme, .. }: &Report) -> Result<()> {
    write(readme, &report::fill(&read(readme)?, &parse(results)?)?)
}

fn write_ratios(Report { floor_results, readme, front_page, .. }: &Report) -> Result<()> {
    let results = parse(floor_results)?;
    write(readme, &report::fill_floor(&read(readme)?, &results)?)?;
    write(front_page, &report::fill_summary(&read(front_page)?, &results)?)
}

fn write_models(Report { model_results, readme, .. }: &Report) -> Result<()> {
    write(readme, &model_report::fill(&read(readme)?, &parse(model_results)?)?)
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read(path)?).with_context(|| format!("failed to parse {}", path.display()))
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
