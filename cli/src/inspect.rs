//! `canopy inspect`: what a model file is, of Canopy or of another library, and why it is refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use canopy_forest::read::columns::{Change, Norm};
use canopy_forest::read::detect::detect;
use canopy_forest::read::error::{Limits, ReadError};
use canopy_forest::read::format::Format;
use canopy_forest::read::model::{self, ImportedModel, Input, InputKind, Link, Model, Step};
use canopy_forest::read::reader;
use canopy_predictor::artifact::{self, Artifact};
use canopy_predictor::engine::network::{self, LoadedNetwork, NetworkError};
use serde::Serialize;

use crate::arguments::{InspectArguments, Output};
use crate::errors::Refused;
use crate::model_file::MlflowFolder;
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
    /// The outputs of a network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Described>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    model: String,
    /// The operators of a network, and how often each occurs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    operators: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// The labels, unless the outputs are values.
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<String>>,
    /// The names of the values of a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
}

/// An input, or an output of a network.
#[derive(Debug, Default, Serialize)]
struct Described {
    name: String,
    /// The dimensions of a network's tensor for one row; empty for one number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shape: Vec<usize>,
    /// Whether a network's tensor is of whole numbers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    integer: bool,
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
            of_foreign(&bytes, || reader::read(&bytes, &limits))
                .map_err(|problem| Refused::one(&name, &problem))?
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
    let MlflowFolder { content: _, manifest, bytes } = MlflowFolder::read(folder, limits)?;
    let description = of_foreign(&bytes, || manifest.read(&bytes, limits))
        .map_err(|problem| Refused::one(&name, &problem))?;
    Ok(Description { format: format!("MLflow with {}", description.format), ..description })
}

/// What a file of another library is: a network, or what `read` returns.
fn of_foreign(
    bytes: &[u8],
    read: impl FnOnce() -> Result<ImportedModel, ReadError>,
) -> Result<Description, String> {
    if detect(bytes) == Format::Onnx && network::is_network(bytes) {
        let network = LoadedNetwork::read(bytes).map_err(|error| error.to_string())?;
        return of_network(&network, bytes.len()).map_err(|error| error.to_string());
    }
    Ok(of_import(&read().map_err(|error| error.to_string())?, bytes.len()))
}

fn of_network(network: &LoadedNetwork, bytes: usize) -> Result<Description, NetworkError> {
    let meaning = network.meaning(0)?;
    let inputs = network.graph().inputs().iter().map(|port| Described {
        name: port.name.clone(),
        shape: port.shape.clone(),
        integer: port.is_integer,
        categories: None,
    });
    let outputs = network.output_shapes().map(|(name, shape)| Described {
        name: name.to_owned(),
        shape: shape.to_vec(),
        ..Described::default()
    });
    Ok(Description {
        format: Format::Onnx.to_string(),
        name: None,
        version: None,
        bytes,
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        steps: Vec::new(),
        model: network.size(),
        operators: network.graph().operators().clone(),
        link: None,
        classes: Some(meaning.labels).filter(|labels| !labels.is_empty()),
        values: Some(meaning.values).filter(|values| !values.is_empty()),
    })
}

fn of_artifact(artifact: &Artifact, bytes: usize) -> Description {
    let card = artifact.card();
    let inputs =
        card.features.iter().map(|feature| Described { name: feature.name.clone(), ..Described::default() });
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
        outputs: Vec::new(),
        steps: Vec::new(),
        model: artifact.size(),
        operators: BTreeMap::new(),
        link: None,
        classes: Some(classes.collect()),
        values: None,
    }
}

fn of_import(model: &ImportedModel, bytes: usize) -> Description {
    let input = |(index, input): (usize, &Input)| Described {
        name: input.name.clone().unwrap_or_else(|| format!("x{index}")),
        categories: match &input.kind {
            InputKind::Categorical { categories } => Some(categories.clone()),
            InputKind::Numeric => None,
        },
        ..Described::default()
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
        outputs: Vec::new(),
        steps: model.steps.iter().map(step).collect(),
        model: match &model.model {
            Model::Trees(trees) => format!("{} trees, {} nodes", trees.raw().trees.len(), trees.nodes()),
            Model::Linear(_) => format!("linear, {} scores", model.model.scores()),
        },
        operators: BTreeMap::new(),
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
        let names = |all: &[Described]| list(&all.iter().map(Described::for_people).collect::<Vec<_>>());
        writeln!(text, "inputs: {}", names(&self.inputs))?;
        for step in &self.steps {
            writeln!(text, "step: {step}")?;
        }
        writeln!(text, "model: {}", self.model)?;
        if !self.operators.is_empty() {
            let counts: Vec<_> =
                self.operators.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(text, "operators: {}", counts.join(", "))?;
        }
        if !self.outputs.is_empty() {
            writeln!(text, "outputs: {}", names(&self.outputs))?;
        }
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

impl Described {
    fn for_people(&self) -> String {
        let shape = if self.shape.is_empty() { String::new() } else { format!(" {:?}", self.shape) };
        let kind = match &self.categories {
            Some(categories) if categories.is_empty() => " (category)".to_owned(),
            Some(categories) => format!(" (category: {})", list(categories)),
            None if self.integer => " (integer)".to_owned(),
            None => String::new(),
        };
        format!("{}{shape}{kind}", self.name)
    }
}

/// The number of names, and the first of them.
fn list(names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("{}: {}{more}", names.len(), names[..names.len().min(LISTED)].join(", "))
}
