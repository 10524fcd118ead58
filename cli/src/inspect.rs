//! `canopy inspect`: what a model file is, of Canopy or of another library, and why it is refused.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use canopy_forest::read::columns::{Change, Norm};
use canopy_forest::read::error::Limits;
use canopy_forest::read::mlflow::{MANIFEST, MANIFEST_MAX, Manifest};
use canopy_forest::read::model::{self, ImportedModel, Input, InputKind, Link, Model, Step};
use canopy_forest::read::reader;
use canopy_predictor::artifact::{self, Artifact};
use canopy_predictor::files;
use serde::Serialize;

use crate::arguments::{InspectArguments, Output};
use crate::errors::Refused;
use crate::{console, input};

/// More names than these are only counted.
const LISTED: usize = 20;

/// What a file is.
#[derive(Debug, Serialize)]
struct Description {
    format: String,
    /// The name and the version, which files of Canopy have.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    bytes: usize,
    inputs: Vec<Described>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// The labels, unless the outputs are values.
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<String>>,
    /// The names of the values of a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
}

/// An input.
#[derive(Debug, Serialize)]
struct Described {
    name: String,
    /// The categories in the order of their index; empty if clients send the index, absent for a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
}

/// Prints what the file or the folder is.
pub(crate) fn inspect(arguments: &InspectArguments) -> Result<()> {
    let limits = Limits::default();
    let name = arguments.file.display().to_string();
    let description = if arguments.file.is_dir() {
        of_folder(&arguments.file, &limits)?
    } else {
        let bytes = input::read(&arguments.file, limits.bytes as u64)?;
        if artifact::is_artifact(&bytes) {
            let artifact = Artifact::decode(&bytes).map_err(|error| Refused::one(&name, &error))?;
            of_artifact(&artifact, bytes.len())
        } else {
            let model = reader::read(&bytes, &limits).map_err(|error| Refused::one(&name, &error))?;
            of_import(&model, bytes.len())
        }
    };
    console::print(&match arguments.output {
        Output::Text => description.for_people()?,
        Output::Json => serde_json::to_string_pretty(&description)? + "\n",
    })
}

/// What a folder of `MLflow` is.
fn of_folder(folder: &Path, limits: &Limits) -> Result<Description> {
    let name = folder.display().to_string();
    if !folder.join(MANIFEST).exists() {
        let reason = if folder.join("saved_model.pb").exists() {
            "a TensorFlow SavedModel is not supported: convert it with python -m tf2onnx.convert --saved-model FOLDER \
             --output model.onnx"
        } else {
            "a folder must be one of MLflow, with the file MLmodel: give the model file"
        };
        return Err(Refused::one(&name, &reason).into());
    }
    let manifest = files::read(&folder.join(MANIFEST), MANIFEST_MAX as u64)?;
    let manifest = Manifest::parse(&manifest).map_err(|error| Refused::one(&name, &error))?;
    let bytes = files::read(&folder.join(manifest.file()), limits.bytes as u64)?;
    let model = manifest.read(&bytes, limits).map_err(|error| Refused::one(&name, &error))?;
    let description = of_import(&model, bytes.len());
    Ok(Description { format: format!("MLflow with {}", model.format), ..description })
}

fn of_artifact(artifact: &Artifact, bytes: usize) -> Description {
    let card = artifact.card();
    let inputs =
        card.features.iter().map(|feature| Described { name: feature.name.clone(), categories: None });
    let classes = card
        .classes
        .iter()
        .enumerate()
        .map(|(index, class)| class.name().map_or(index.to_string(), str::to_owned));
    Description {
        format: "Canopy".to_owned(),
        name: Some(card.model.to_string()),
        version: Some(card.version.clone()),
        bytes,
        inputs: inputs.collect(),
        steps: Vec::new(),
        model: artifact.size(),
        link: None,
        classes: Some(classes.collect()),
        values: None,
    }
}

fn of_import(model: &ImportedModel, bytes: usize) -> Description {
    let input = |(index, input): (usize, &Input)| Described {
        name: input.name.clone().unwrap_or_else(|| format!("input {index}")),
        categories: match &input.kind {
            InputKind::Categorical { categories } => Some(categories.clone()),
            InputKind::Numeric => None,
        },
    };
    let (classes, values) = match &model.output {
        model::Output::Classes(labels) => (Some(labels.clone()), None),
        model::Output::Values(names) => (None, Some(names.clone())),
    };
    Description {
        format: model.format.to_string(),
        name: None,
        version: None,
        bytes,
        inputs: model.inputs.iter().enumerate().map(input).collect(),
        steps: model.steps.iter().map(step).collect(),
        model: match &model.model {
            Model::Trees(trees) => format!("{} trees, {} nodes", trees.raw().trees.len(), trees.nodes()),
            Model::Linear(_) => format!("linear, {} scores", model.model.scores()),
        },
        link: link(model.link).map(str::to_owned),
        classes,
        values,
    }
}

/// A step of preprocessing in words.
fn step(step: &Step) -> String {
    match step {
        Step::ZeroToMissing { columns, .. } => format!("zero is missing in {} columns", columns.len()),
        Step::Normalize(norm) => format!("normalize by {}", norm_name(*norm)),
        Step::Columns(columns) => {
            let mut changes: Vec<_> = columns.iter().flat_map(|column| &column.changes).map(change).collect();
            changes.sort_unstable();
            changes.dedup();
            let count = columns.len();
            if changes.is_empty() {
                format!("choose {count} columns")
            } else {
                format!("{count} columns: {}", changes.join(", "))
            }
        }
    }
}

fn norm_name(norm: Norm) -> &'static str {
    match norm {
        Norm::Max => "the largest value",
        Norm::MaxAbs => "the largest absolute value",
        Norm::L1 => "L1",
        Norm::L2 => "L2",
    }
}

fn change(change: &Change) -> &'static str {
    match change {
        Change::Round => "round to 32 bits",
        Change::Truncate => "truncate",
        Change::Scale { .. } | Change::Divide { .. } => "scale",
        Change::Clamp { .. } => "clip",
        Change::Replace { .. } => "impute",
        Change::Is(_) => "one-hot",
        Change::Above(_) => "binarize",
        Change::Map(_) => "encode",
    }
}

/// What makes outputs of scores, unless outputs are the scores.
fn link(link: Link) -> Option<&'static str> {
    match link {
        Link::Identity => None,
        Link::Logistic { .. } => Some("logistic"),
        Link::LogisticShares => Some("logistic, divided by the sum"),
        Link::Softmax => Some("softmax"),
        Link::Exp => Some("exponential"),
        Link::SignedSquare => Some("signed square"),
        Link::Softplus => Some("softplus"),
    }
}

impl Description {
    fn for_people(&self) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "format: {}", self.format)?;
        for (key, value) in [("name", &self.name), ("version", &self.version)] {
            if let Some(value) = value {
                writeln!(text, "{key}: {value}")?;
            }
        }
        writeln!(text, "size: {} bytes", self.bytes)?;
        let name = |input: &Described| match &input.categories {
            Some(categories) if categories.is_empty() => format!("{} (category)", input.name),
            Some(categories) => format!("{} (category: {})", input.name, list(categories)),
            None => input.name.clone(),
        };
        writeln!(text, "inputs: {}", list(&self.inputs.iter().map(name).collect::<Vec<_>>()))?;
        for step in &self.steps {
            writeln!(text, "step: {step}")?;
        }
        writeln!(text, "model: {}", self.model)?;
        if let Some(link) = &self.link {
            writeln!(text, "link: {link}")?;
        }
        for (key, names) in [("classes", &self.classes), ("values", &self.values)] {
            if let Some(names) = names {
                writeln!(text, "{key}: {}", list(names))?;
            }
        }
        Ok(text)
    }
}

/// The number of names, and the first of them.
fn list(names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("{}: {}{more}", names.len(), names[..names.len().min(LISTED)].join(", "))
}
