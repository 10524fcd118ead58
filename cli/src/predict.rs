//! `canopy predict`: predictions for the rows of a table, without a server.
//!
//! If one row is invalid, nothing is printed.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use canopy_predictor::artifact::Artifact;
use canopy_predictor::engine::head::Answer;
use serde::Serialize;

use crate::arguments::PredictArguments;
use crate::{console, input, table};

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

/// Answers every row.
pub(crate) fn predict(arguments: &PredictArguments) -> Result<()> {
    let PredictArguments { model, input, proba } = arguments;
    let artifact = Artifact::read(model).with_context(|| format!("failed to load {}", model.display()))?;
    let bytes = input::read(input, TABLE_MAX_BYTES)?;
    let rows = table::rows(&bytes, &artifact.card().features)
        .with_context(|| format!("failed to read {}", input.display()))?;

    let model = artifact.load();
    let answers = model.predict(&rows)?;
    let probabilities = if *proba { model.outputs(&rows)? } else { Vec::new() };
    let mut lines = String::new();
    let classes = &artifact.card().classes;
    for (index, answer) in answers.into_iter().enumerate() {
        let line = Line {
            row: index + 1,
            answer,
            label: answer.class().and_then(|class| classes.get(class as usize)?.name()),
            probabilities: probabilities.get(index).map(Vec::as_slice),
        };
        writeln!(lines, "{}", serde_json::to_string(&line)?)?;
    }
    console::print(&lines)
}
