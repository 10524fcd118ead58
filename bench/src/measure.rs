//! The measurements of `canopy-bench all`, one after the other.

use std::fs;

use anyhow::{Context as _, Result};

use crate::call::Call;
use crate::load::{self, Times};
use crate::machine;
use crate::results::{Load, Results, Shape, Size, Start, Subject, Training};
use crate::server::{free_address, output};
use crate::subjects::{Workplace, call};
use crate::training;

/// The servers, in the order of measurement. The bare server is measured by `floor`.
const SUBJECTS: [Subject; 3] = [Subject::Predictor, Subject::Gateway, Subject::FastApi];
/// The loads for all servers.
const SHAPES: [Shape; 3] = [
    Shape::Closed { connections: 32 },
    Shape::Closed { connections: 1 },
    Shape::Open { per_second: 1_000, connections: 64 },
];
/// An additional load for Canopy.
const MANY: Shape = Shape::Open { per_second: 10_000, connections: 64 };
/// An additional load for Python, which can respond to it in time.
const FEW: Shape = Shape::Open { per_second: 50, connections: 64 };
/// The programs whose size is measured.
const PROGRAMS: [&str; 3] = ["canopy-predictor", "canopy-gateway", "canopy"];

/// The amount of measurements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) times: Times,
    /// Number of starts of each server.
    pub(crate) starts: usize,
    /// Number of seeds with which each forest is trained.
    pub(crate) seeds: u64,
}

/// Measures everything.
pub(crate) async fn everything(workplace: &Workplace, effort: Effort) -> Result<Results> {
    let machine = machine::describe(Some(&workplace.python))?;
    workplace.prepare()?;
    let mut load = Vec::new();
    for subject in SUBJECTS {
        load.extend(loads(workplace, subject, effort.times).await?);
    }
    let start = vec![
        starts(workplace, Subject::Predictor, effort.starts).await?,
        starts(workplace, Subject::Gateway, effort.starts).await?,
        starts(workplace, Subject::FastApi, effort.starts).await?,
    ];
    let training = trainings(workplace, effort.seeds)?;
    Ok(Results { machine, load, start, training, size: sizes(workplace)? })
}

async fn loads(workplace: &Workplace, subject: Subject, times: Times) -> Result<Vec<Load>> {
    let extra = if subject == Subject::FastApi { FEW } else { MANY };
    let (servers, call) = workplace.stand_up(subject).await?;
    let mut loads = Vec::new();
    for shape in SHAPES.into_iter().chain([extra]) {
        let load = load::run(subject, &call, shape, times, &servers).await?;
        let failure = load.first_failure.as_deref().map(|why| format!(", {} failed: {why}", load.failed));
        let failure = failure.unwrap_or_default();
        progress(&format!("{}, {shape:?}: {:.0}/s{failure}", subject.title(), load.per_second()));
        loads.push(load);
    }
    for server in servers {
        server.end().await?;
    }
    Ok(loads)
}

/// Starts a server several times, while the servers behind it keep running.
async fn starts(workplace: &Workplace, subject: Subject, times: usize) -> Result<Start> {
    let behind = match subject {
        Subject::Gateway => Some(workplace.stand_up(Subject::Predictor).await?),
        Subject::Baseline | Subject::Nginx | Subject::Predictor | Subject::FastApi => None,
    };
    let upstream = behind.as_ref().map(|(_, call)| call.address);
    let mut milliseconds = Vec::new();
    let mut route = String::new();
    for _ in 0..times {
        let address = free_address()?;
        let call = match subject {
            Subject::Gateway => Call::get(address, "/api/test", r#"{"status":"ok""#),
            Subject::Baseline | Subject::Nginx | Subject::Predictor | Subject::FastApi => {
                call(subject, address)
            }
        };
        route = format!("{} {}", call.method, call.path);
        let (server, took) = workplace.start(subject, &call, upstream).await?;
        milliseconds.push(took.as_secs_f64() * 1e3);
        server.end().await?;
    }
    for server in behind.into_iter().flat_map(|(servers, _)| servers) {
        server.end().await?;
    }
    progress(&format!("{}, start: {milliseconds:.1?} ms", subject.title()));
    Ok(Start { subject, route, milliseconds })
}

fn trainings(workplace: &Workplace, seeds: u64) -> Result<Vec<Training>> {
    let mut found = Vec::new();
    for name in ["demo", "large"] {
        let (rows, held_out) = (workplace.rows(name), workplace.rows(&format!("{name}-test")));
        for threads in [1, 2] {
            let ours = training::measure(name, [&rows, &held_out], threads, seeds)?;
            let mut python = workplace.python("train.py");
            python.arg(name).arg(&rows).arg(&held_out).args([threads.to_string(), seeds.to_string()]);
            let theirs = serde_json::from_str(&output(&mut python)?).context("train.py printed no result")?;
            progress(&format!("training {name} with {threads} threads: done"));
            found.extend([ours, theirs]);
        }
    }
    Ok(found)
}

fn sizes(workplace: &Workplace) -> Result<Vec<Size>> {
    let size = |program: &str| {
        let path = workplace.programs.join(program);
        let file =
            fs::metadata(&path).with_context(|| format!("failed to read the size of {}", path.display()))?;
        Ok(Size { program: program.to_owned(), bytes: file.len() })
    };
    PROGRAMS.into_iter().map(size).collect()
}

#[expect(clippy::print_stderr, reason = "people wait for it")]
fn progress(line: &str) {
    eprintln!("{line}");
}
