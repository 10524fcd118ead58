//! `canopy predict`: the rows of a table to predictions, without a server.
//!
//! Comes in: a model in a file and a table. Goes out: a line of JSON per row, with the numbers that the predictor
//! would answer. Never: a part of the answers where a row is at fault.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use canopy_contract::predict::RowAnswer;
use canopy_predictor::artifact::Artifact;
use serde::Serialize;

use crate::arguments::PredictArguments;
use crate::{console, input, table};

const TABLE_MAX_BYTES: u64 = 1 << 30;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    answer: RowAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<&'a [f64]>,
}

/// Answers every row.
pub(crate) fn predict(arguments: &PredictArguments) -> Result<()> {
    let PredictArguments { model, input, proba } = arguments;
    let artifact = Artifact::read(model).with_context(|| format!("failed to load {}", model.display()))?;
    let bytes = input::read(input, TABLE_MAX_BYTES)?;
    let rows = table::rows(&bytes, &artifact.card().features)
        .with_context(|| format!("failed to read {}", input.display()))?;

    let pipeline = artifact.pipeline();
    let answers = pipeline.predict(&rows)?;
    let probabilities = if *proba { pipeline.probabilities(&rows)? } else { Vec::new() };
    let mut lines = String::new();
    for (row, answer) in answers.into_iter().enumerate() {
        let line = Line { answer, probabilities: probabilities.get(row).map(Vec::as_slice) };
        writeln!(lines, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(console::print(&lines)?)
}
