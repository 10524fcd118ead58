//! Model files of other libraries: loading, memory and time per row, beside the library that made the file.
//!
//! Every figure comes from a process of its own: this program for Canopy, `peers/models.py` for the library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_contract::rows::Rows;
use canopy_contract::serving::ServingConfig;
use canopy_forest::read::detect::detect;
use canopy_forest::read::format::Format;
use canopy_predictor::artifact::{self, Artifact};
use canopy_predictor::engine::interface::{Batch, Engine as _, Scratch};
use canopy_predictor::engine::loaded::LoadedModel;
use canopy_predictor::engine::network::{self, LoadedNetwork, NetworkEngine};
use canopy_predictor::training::import;
use serde_json::json;

use crate::latency::median;
use crate::machine;
use crate::results::{LibraryCost, ModelCost, ModelResults, ModelRound, ModelRounds, Tract};
use crate::server::output;
use crate::subjects::{Workplace, peers};
use crate::usage;

/// How long each kind of call is repeated, as in `peers/models.py`.
const SPAN: Duration = Duration::from_millis(500);
/// The fewest calls of a kind.
const CALLS_MIN: usize = 10;

/// Measures every model in each round: the file, the artifact that is made of it, and the library.
pub(crate) fn measure(workplace: &Workplace, rounds: usize) -> Result<ModelResults> {
    let machine = machine::describe_without_servers(&workplace.python)?;
    output(workplace.python("models.py").arg("make").arg(&workplace.scratch))?;
    let rows = workplace.scratch.join("rows.json");
    let golden = peers().join("../../tests/golden/models/neural");
    let made = files(&workplace.scratch)?.into_iter().filter(|file| *file != rows);
    let mut models = Vec::new();
    for (file, rows) in
        made.map(|file| (file, Some(&rows))).chain(files(&golden)?.into_iter().map(|f| (f, None)))
    {
        let name = file.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        let mut found = ModelRounds { name, bytes: fs::metadata(&file)?.len(), rounds: Vec::new() };
        for _ in 0..rounds {
            found.rounds.push(round(workplace, &file, rows.map(PathBuf::as_path))?);
        }
        progress(&found.name);
        models.push(found);
    }
    Ok(ModelResults { machine, models })
}

fn round(workplace: &Workplace, file: &Path, rows: Option<&Path>) -> Result<ModelRound> {
    let artifact = workplace.scratch.join("artifact");
    let ours = |file: &Path, write: bool| -> Result<ModelCost> {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("model").arg(file);
        if let Some(rows) = rows {
            command.arg("--rows").arg(rows);
        }
        if write {
            command.arg("--write").arg(&artifact);
        }
        serde_json::from_str(&output(&mut command)?).context("`model` printed no figures")
    };
    let imported = ours(file, rows.is_some())?;
    let loaded = rows.map(|_| ours(&artifact, false)).transpose()?;
    let library = output(workplace.python("models.py").arg("time").arg(file).args(rows))?;
    let library: LibraryCost = serde_json::from_str(&library).context("models.py printed no figures")?;
    let tract = if rows.is_none() { Some(tract(workplace, file)?) } else { None };
    Ok(ModelRound { imported, loaded, library, tract })
}

/// A network in the golden files that is refused, because its scores are not probabilities.
const REFUSED: &str = "skl_sgd_hinge";

/// Measures tract with a neural network. A signal that ends the process, as after a panic in tract, counts as a refusal.
fn tract(workplace: &Workplace, file: &Path) -> Result<Tract> {
    let mut command = workplace.python("models.py");
    let ended = command.arg("tract").arg(file).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let ended = ended.with_context(|| format!("failed to start {command:?}"))?;
    if ended.status.code().is_none() {
        return Ok(Tract::Refused { refused: format!("the process ended with {}", ended.status) });
    }
    ensure!(ended.status.success(), "{command:?} ended with {}", ended.status);
    serde_json::from_slice(&ended.stdout).context("models.py printed no figures of tract")
}

/// The model files in a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_model = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        !name.ends_with(".input.json")
            && !name.ends_with(".expected.json")
            && matches!(suffix, Some("txt" | "json" | "ubj" | "skops" | "onnx"))
    };
    let paths = fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut paths: Vec<_> = paths.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| is_model(path) && path.file_stem().is_none_or(|stem| stem != REFUSED));
    paths.sort();
    Ok(paths)
}

/// Measures one file in this process, which must have done nothing else. The artifact is written to `write`.
pub(crate) fn one(file: &Path, rows: Option<&Path>, write: Option<&Path>) -> Result<ModelCost> {
    let rows: Option<Vec<Vec<f64>>> = match rows {
        Some(rows) => Some(serde_json::from_slice(&fs::read(rows)?).context("failed to parse the rows")?),
        None => None,
    };
    let before = usage::of_this_memory()?;
    let start = Instant::now();
    let bytes = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let (model, artifact) = Model::read(&bytes)?;
    drop(bytes);
    let rows = rows.unwrap_or_else(|| vec![vec![0.0; model.inputs()]; 100]);
    let mut asked = Asked::new(&rows);
    model.answer(&mut asked, Some(0))?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    if let (Some(write), Some(artifact)) = (write, &artifact) {
        fs::write(write, artifact.encode()?)?;
    }
    drop(artifact);
    let resident_kib = usage::of_this_memory()?.saturating_sub(before);
    let mut turn = 0;
    let single_us = median_us(|| {
        turn = (turn + 1) % rows.len();
        model.answer(&mut asked, Some(turn))
    })?;
    let hundred_us = median_us(|| model.answer(&mut asked, None))? / rows.len() as f64;
    Ok(ModelCost { load_ms, resident_kib, single_us, hundred_us })
}

/// A model, or a network without an artifact: its classes are not declared, so only its scores are computed.
enum Model {
    Whole { model: LoadedModel, inputs: usize },
    Network(NetworkEngine),
}

impl Model {
    fn read(bytes: &[u8]) -> Result<(Self, Option<Artifact>)> {
        if artifact::is_artifact(bytes) {
            return Ok((Self::of(&Artifact::decode(bytes)?), None));
        }
        if detect(bytes) == Format::Onnx && network::is_network(bytes) {
            let network = LoadedNetwork::read(bytes)?;
            if network.graph().labels().is_none() {
                return Ok((Self::Network(NetworkEngine::new(&network)), None));
            }
            let artifact = import::of_network(network, &config()?)?;
            return Ok((Self::of(&artifact), Some(artifact)));
        }
        let artifact = import::of_bytes(bytes, None, &config()?)?;
        Ok((Self::of(&artifact), Some(artifact)))
    }

    fn of(artifact: &Artifact) -> Self {
        Self::Whole { model: artifact.load(), inputs: artifact.card().features.len() }
    }

    fn inputs(&self) -> usize {
        match self {
            Self::Whole { inputs, .. } => *inputs,
            Self::Network(network) => network.inputs(),
        }
    }

    fn answer(&self, asked: &mut Asked, row: Option<usize>) -> Result<()> {
        match self {
            Self::Whole { model, .. } => {
                let rows = row.map_or(&asked.all, |row| &asked.singles[row]);
                ensure!(model.predict(rows)?.len() == rows.len(), "a row has no answer");
            }
            Self::Network(network) => {
                let rows = row.map_or(&asked.all, |row| &asked.singles[row]);
                asked.scores.resize(rows.len() * network.outputs(), 0.0);
                network.run(
                    Batch::new(rows.values(), network.inputs())?,
                    &mut Scratch::default(),
                    &mut asked.scores,
                )?;
            }
        }
        Ok(())
    }
}

/// The rows of all calls.
struct Asked {
    singles: Vec<Rows>,
    all: Rows,
    scores: Vec<f64>,
}

impl Asked {
    fn new(rows: &[Vec<f64>]) -> Self {
        let singles = rows.iter().map(|row| Rows::single(row.clone())).collect();
        Self { singles, all: Rows::instances(rows), scores: Vec::new() }
    }
}

fn config() -> Result<ServingConfig> {
    let config = json!({
        "model": "bench", "namespace": "default", "version": "1", "revision": "00000000",
        "artifact": {"source": {"path": "model"}}, "features": [], "classes": [],
    });
    Ok(serde_json::from_value(config)?)
}

/// The median of repeated calls, in microseconds.
fn median_us(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    let end = Instant::now() + SPAN;
    while times.len() < CALLS_MIN || Instant::now() < end {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

#[expect(clippy::print_stderr, reason = "people wait for it")]
fn progress(name: &str) {
    eprintln!("{name}: done");
}
