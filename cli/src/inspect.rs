//! `canopy inspect`: what a model file is, of Canopy or of another library, and why it is refused.

use std::fmt::Write as _;

use anyhow::Result;
use canopy_forest::read::error::Limits;
use canopy_forest::read::model::{ImportedModel, Input, InputKind, Model, Output};
use canopy_forest::read::reader;
use canopy_predictor::artifact::{self, Artifact};

use crate::arguments::InspectArguments;
use crate::errors::Refused;
use crate::{console, input};

/// More names than these are only counted.
const LISTED: usize = 20;

/// Prints what the file is.
pub(crate) fn inspect(arguments: &InspectArguments) -> Result<()> {
    let limits = Limits::default();
    let bytes = input::read(&arguments.file, limits.bytes as u64)?;
    let file = arguments.file.display().to_string();
    let text = if artifact::is_artifact(&bytes) {
        of_artifact(&Artifact::decode(&bytes).map_err(|error| Refused::one(&file, &error))?)?
    } else {
        of_import(&reader::read(&bytes, &limits).map_err(|error| Refused::one(&file, &error))?)?
    };
    console::print(&text)
}

fn of_artifact(artifact: &Artifact) -> Result<String> {
    let card = artifact.card();
    let mut text = String::new();
    writeln!(text, "format: Canopy\nname: {}\nversion: {}", card.model, card.version)?;
    let inputs = card.features.iter().map(|feature| feature.name.clone()).collect::<Vec<_>>();
    let classes = card
        .classes
        .iter()
        .enumerate()
        .map(|(index, class)| class.name().map_or(index.to_string(), str::to_owned));
    writeln!(text, "inputs: {}", list(&inputs))?;
    writeln!(text, "model: {}", artifact.size())?;
    writeln!(text, "classes: {}", list(&classes.collect::<Vec<_>>()))?;
    Ok(text)
}

fn of_import(model: &ImportedModel) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "format: {}", model.format)?;
    let name = |(index, input): (usize, &Input)| {
        let name = input.name.clone().unwrap_or_else(|| format!("input {index}"));
        match &input.kind {
            InputKind::Categorical { categories } if categories.is_empty() => format!("{name} (category)"),
            InputKind::Categorical { categories } => format!("{name} (category: {})", list(categories)),
            InputKind::Numeric => name,
        }
    };
    writeln!(text, "inputs: {}", list(&model.inputs.iter().enumerate().map(name).collect::<Vec<_>>()))?;
    match &model.model {
        Model::Trees(trees) => {
            writeln!(text, "model: {} trees, {} nodes", trees.raw().trees.len(), trees.nodes())?;
        }
        Model::Linear(_) => writeln!(text, "model: linear, {} scores", model.model.scores())?,
    }
    match &model.output {
        Output::Classes(labels) => writeln!(text, "classes: {}", list(labels))?,
        Output::Values(names) => writeln!(text, "values: {}", list(names))?,
    }
    Ok(text)
}

/// The number of names, and the first of them.
fn list(names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("{}: {}{more}", names.len(), names[..names.len().min(LISTED)].join(", "))
}
