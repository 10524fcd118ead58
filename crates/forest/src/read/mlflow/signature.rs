//! The signature of a model in `MLflow`: the columns of its table.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::data::seen::Seen;
use crate::read::error::Problem;
use crate::read::format::Format;
use crate::read::model::{ImportedModel, InputKind, Step};

/// The inputs of a signature.
#[derive(Debug)]
pub(crate) enum Signature {
    /// The columns of a table.
    Columns(Vec<Column>),
    /// One tensor of rows of this many numbers, if that is known.
    Tensor(Option<usize>),
    /// Several tensors with names of their own.
    Tensors,
}

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    name: Option<String>,
    is_text: bool,
}

#[derive(Deserialize)]
struct Entry {
    r#type: serde_json::Value,
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    tensor: Option<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<i64>,
}

impl Signature {
    /// Reads the JSON of the inputs.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let entries: Vec<Entry> = serde_json::from_str(text)
            .map_err(|error| Problem::malformed(format!("the inputs of the signature: {error}")))?;
        if let [Entry { tensor: Some(tensor), .. }] = &entries[..] {
            let width = if tensor.shape.len() == 2 { tensor.shape.last() } else { None };
            return Ok(Self::Tensor(width.and_then(|width| usize::try_from(*width).ok())));
        }
        if entries.iter().any(|entry| entry.tensor.is_some()) {
            return Ok(Self::Tensors);
        }
        entries.into_iter().map(column).collect::<Result<_, _>>().map(Self::Columns)
    }

    /// Gives the inputs of a model the names of the columns, and refuses a model with other inputs.
    pub(crate) fn apply(&self, model: &mut ImportedModel) -> Result<(), Problem> {
        match self {
            Self::Columns(columns) => named(columns, model),
            Self::Tensor(Some(width)) => count(*width, model),
            Self::Tensor(None) | Self::Tensors => Ok(()),
        }
    }
}

fn column(entry: Entry) -> Result<Column, Problem> {
    let Entry { r#type, name, .. } = entry;
    let is_text = match r#type.as_str() {
        Some("boolean" | "integer" | "long" | "float" | "double") => false,
        Some("string") => true,
        other => {
            let name = Seen::new(name.as_deref().unwrap_or_default());
            let kind = Seen::new(other.unwrap_or("unknown"));
            return Err(Problem::unsupported(
                format!("column {name} of type {kind}"),
                "use boolean, integer, long, float, double or string",
            ));
        }
    };
    Ok(Column { name, is_text })
}

fn count(found: usize, model: &ImportedModel) -> Result<(), Problem> {
    let inputs = model.inputs.len();
    if found == inputs {
        return Ok(());
    }
    Err(Problem::malformed(format!("the signature has {found} columns, but the model takes {inputs}")))
}

fn named(columns: &[Column], model: &mut ImportedModel) -> Result<(), Problem> {
    count(columns.len(), model)?;
    if columns.iter().any(|column| column.name.is_none()) {
        return Ok(());
    }
    let names: BTreeSet<_> = columns.iter().filter_map(|column| column.name.as_deref()).map(plain).collect();
    if names.len() != columns.len() {
        return Err(Problem::malformed("two columns of the signature have the same name"));
    }
    let own: BTreeSet<_> = model.inputs.iter().filter_map(|input| input.name.as_deref()).map(plain).collect();
    // A tensor of an ONNX file has a name of its own, and LightGBM numbers columns that had no names.
    let is_given = own.len() == columns.len()
        && !(model.format == Format::Onnx && columns.len() == 1)
        && !own
            .iter()
            .all(|name| name.strip_prefix("Column_").is_some_and(|rest| rest.parse::<u32>().is_ok()));
    if is_given && own != names {
        let other = own.difference(&names).next().map(String::as_str).unwrap_or_default();
        return Err(Problem::malformed(format!(
            "the model's input {} is not in the signature",
            Seen::new(other)
        )));
    }
    for index in 0..columns.len() {
        let name = model.inputs[index].name.as_deref().map(plain);
        let column = match name.filter(|_| is_given) {
            Some(own) => {
                columns.iter().find(|column| column.name.as_deref().map(plain).as_ref() == Some(&own))
            }
            None => columns.get(index),
        };
        let Some(column) = column else { continue };
        check_kind(column, model, index)?;
        model.inputs[index].name.clone_from(&column.name);
    }
    Ok(())
}

/// A name as `LightGBM` writes it.
fn plain(name: &str) -> String {
    name.replace(|character: char| character.is_whitespace(), "_")
}

/// Refuses a column of texts for a number, or the other way round.
fn check_kind(column: &Column, model: &ImportedModel, index: usize) -> Result<(), Problem> {
    let is_used = match model.steps.first() {
        Some(Step::Columns(columns)) => columns.iter().any(|column| column.source == index),
        _ => true,
    };
    let name = Seen::new(column.name.as_deref().unwrap_or_default());
    match &model.inputs[index].kind {
        InputKind::Numeric if column.is_text && is_used => Err(Problem::malformed(format!(
            "column {name} is text in the signature, but the model takes a number"
        ))),
        InputKind::Categorical { categories }
            if !column.is_text && categories.iter().any(|category| category.parse::<f64>().is_err()) =>
        {
            Err(Problem::malformed(format!(
                "column {name} is a number in the signature, but the model takes text"
            )))
        }
        InputKind::Numeric | InputKind::Categorical { .. } => Ok(()),
    }
}
