//! `canopy predict`: predictions for the rows of a table, without a server.
//!
//! If one row is invalid, nothing is printed.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use canopy_predictor::artifact::{Artifact, ArtifactError};
use canopy_predictor::engine::head::Answer;
use canopy_predictor::sources::networks::Sources;
use canopy_predictor::training::{import, labelled};
use serde::Serialize;

use crate::arguments::{Declared, PredictArguments};
use crate::{console, input, model_file};

const TABLE_MAX_BYTES: u64 = 1 << 30;

#[derive(Serialize)]
struct Line<'a> {
    /// The number of the row, the first below the header being 1.
    row: usize,
    #[serde(flatten)]
    answer: Answer,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<&'a [f64]>,
}

/// Reads an artifact of Canopy, or imports the file of another library.
fn load(path: &Path, declared: &Declared) -> Result<Artifact> {
    if declared.is_empty() && !path.is_dir() {
        match Artifact::read(path) {
            Err(ArtifactError::Signature | ArtifactError::Cut(_)) => {}
            read => return Ok(read?),
        }
    }
    let config = model_file::plan(path, None, declared)?.config;
    let import = config.artifact.as_ref().context("the plan of a file has an import")?;
    Ok(import::import(import, &config, &Sources::Anywhere)?)
}

/// Answers every row.
pub(crate) fn predict(arguments: &PredictArguments) -> Result<()> {
    let PredictArguments { model, declared, input, proba } = arguments;
    let artifact = load(model, declared).with_context(|| format!("failed to load {}", model.display()))?;
    let bytes = input::read(input, TABLE_MAX_BYTES)?;
    let rows = labelled::read(&bytes, &artifact.card().features, None)
        .with_context(|| format!("failed to read {}", input.display()))?
        .rows;

    let model = artifact.load();
    let answers = model.predict(&rows)?;
    let classes = &artifact.card().classes;
    let probabilities = if *proba && !classes.is_empty() { model.outputs(&rows)? } else { Vec::new() };
    let mut lines = String::new();
    for (index, answer) in answers.into_iter().enumerate() {
        if !answer.is_finite() {
            bail!(
                "row {} gets no finite number from the model: its values are too far from those of the training",
                index + 1
            );
        }
        let line = Line {
            row: index + 1,
            label: answer.class().and_then(|class| classes.get(class as usize)?.name()),
            probabilities: probabilities.get(index).map(Vec::as_slice),
            answer,
        };
        writeln!(lines, "{}", serde_json::to_string(&line)?)?;
    }
    console::print(&lines)
}
