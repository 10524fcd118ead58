//! The model files of `XGBoost` 1.7 to 3: `save_model` with the endings `.json` and `.ubj`, which have the same content.

mod ubj;
mod document;
mod objective;
mod categories;
mod trees;

use serde::Deserialize as _;

use crate::ensemble::form::{INPUTS_MAX, OUTPUTS_MAX};
use crate::ensemble::precision::Precision;
use crate::read::builder::Builder;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::{ImportedModel, Input, InputKind, Model};

use document::{Document, Learner, Trees};

/// Reads a `.json` file.
pub fn read_json(bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
    let document = Limits::check("bytes", bytes.len(), limits.bytes).and_then(|()| {
        // The parser has a limit of 128 levels, and skips what is not in the document without recursion.
        serde_json::from_slice(bytes).map_err(|error| Problem::malformed(error.to_string()))
    });
    import(document, Format::XgboostJson, limits)
}

/// Reads a `.ubj` file.
pub fn read_ubj(bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
    let document = Limits::check("bytes", bytes.len(), limits.bytes).and_then(|()| {
        let mut reader = ubj::Reader::new(bytes, limits.depth);
        let document =
            Document::deserialize(&mut reader).and_then(|document| reader.end().map(|()| document));
        document.map_err(|error| Problem::malformed(error.to_string()))
    });
    import(document, Format::XgboostUbj, limits)
}

fn import(
    document: Result<Document, Problem>,
    format: Format,
    limits: &Limits,
) -> Result<ImportedModel, ReadError> {
    let Document { learner } = document.map_err(|problem| problem.at(format, ""))?;
    let at = |place: &'static str| move |problem: Problem| problem.at(format, place);
    let (trees, drops) = learner.gradient_booster.trees().map_err(at("gradient_booster"))?;
    let param = &learner.learner_model_param;
    let outputs = param.num_class.max(param.num_target).max(1);
    Limits::check("outputs", outputs, OUTPUTS_MAX).map_err(at("learner_model_param"))?;
    let inputs = inputs(&learner, trees).map_err(at("learner"))?;
    let objective = objective::objective(&learner.objective.name, param).map_err(at("objective"))?;
    let base = objective.base(&param.base_score.0, outputs).map_err(at("base_score"))?;

    let Trees { trees, tree_info, .. } = trees;
    let weights = drops.unwrap_or(&[]);
    for (what, found) in
        [("tree_info", tree_info.len()), ("weight_drop", drops.map_or(trees.len(), <[_]>::len))]
    {
        if found != trees.len() {
            let problem = format!("`{what}` must have {} numbers, got {found}", trees.len());
            return Err(Problem::malformed(problem).at(format, "gradient_booster"));
        }
    }
    let mut builder = Builder::new(outputs, *limits);
    for (index, (tree, output)) in trees.iter().zip(tree_info).enumerate() {
        let weight = weights.get(index).copied().unwrap_or(1.0);
        trees::add(tree, &mut builder, *output, weight)
            .map_err(|problem| problem.at(format, format!("tree {index}")))?;
    }
    let ensemble = builder.finish(inputs.len(), Precision::Single, base, 1.0).map_err(at("trees"))?;
    Ok(ImportedModel {
        format,
        inputs,
        steps: Vec::new(),
        model: Model::Trees(ensemble),
        link: objective.link,
        output: objective.output,
        handles_missing: true,
    })
}

fn inputs(learner: &Learner, trees: &Trees) -> Result<Vec<Input>, Problem> {
    let count = learner.learner_model_param.num_feature;
    Limits::check("inputs", count, INPUTS_MAX)?;
    let (names, types) = (&learner.feature_names, &learner.feature_types);
    for (what, found) in [("feature_names", names.len()), ("feature_types", types.len())] {
        if found != 0 && found != count {
            return Err(Problem::malformed(format!("`{what}` must have {count} entries, got {found}")));
        }
    }
    let mut categories = categories::all(&trees.cats, count)?;
    let input = |index: usize| Input {
        name: names.get(index).cloned(),
        kind: match types.get(index) {
            Some(kind) if kind == "c" => InputKind::Categorical {
                categories: categories.get_mut(index).map(std::mem::take).unwrap_or_default(),
            },
            _ => InputKind::Numeric,
        },
    };
    Ok((0..count).map(input).collect())
}
