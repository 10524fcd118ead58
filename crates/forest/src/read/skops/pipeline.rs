//! Pipelines of scikit-learn: transformers, the columns that they apply to, and the model at the end.

use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::lightgbm;
use crate::read::model::{ImportedModel, InputKind, Output};
use crate::read::skops::file::File;
use crate::read::skops::row::{Preparation, Row};
use crate::read::skops::schema::Object;
use crate::read::skops::trees::Predictor;
use crate::read::skops::{boosting, linear, steps, trees};
use crate::read::whole::whole;

const FORMAT: Format = Format::Skops;
/// The minor versions of scikit-learn 1 whose files are read.
const VERSIONS: std::ops::RangeInclusive<u32> = 3..=9;

/// The model of an object.
pub(crate) fn model(file: &File<'_>, root: Object<'_>) -> Result<ImportedModel, ReadError> {
    let stages = stages(root).map_err(at(root))?;
    let Some((last, transformers)) = stages.split_last() else {
        return Err(Problem::malformed("the pipeline has no steps").at(FORMAT, place(root)));
    };
    let first = transformers.first().unwrap_or(last);
    let count = input_count(file, *first).map_err(at(*first))?;
    let (mut preparation, mut row) = Preparation::new(count, file.limits).map_err(at(*first))?;
    if let Some(names) = input_names(file, *first).map_err(at(*first))? {
        preparation.name(names).map_err(at(*first))?;
    }
    for step in transformers {
        row = transformed(file, *step, &row, &mut preparation).map_err(at(*step))?;
    }
    if matches!(last.class(), "LGBMClassifier" | "LGBMRegressor" | "LGBMRanker" | "Booster") {
        return boosted(file, *last, preparation, &row);
    }
    let mut last_of = |preparation: &mut Preparation| {
        check_width(file, *last, row.len())?;
        row = remapped(file, *last, &row, preparation)?;
        let predictor = predictor(file, *last, row.len())?;
        preparation.complete(&row)?;
        Ok(predictor)
    };
    let (model, link, output) = last_of(&mut preparation).map_err(at(*last))?;
    let (inputs, steps) = preparation.finish();
    let handles_missing = last.class().starts_with("HistGradientBoosting");
    Ok(ImportedModel { format: FORMAT, inputs, steps, model, link, output, handles_missing })
}

/// Adds the place of an object to a problem.
fn at(object: Object<'_>) -> impl FnOnce(Problem) -> ReadError {
    move |problem| problem.at(FORMAT, place(object))
}

/// An object in the words of an error.
fn place(object: Object<'_>) -> String {
    let is_plain = |class: &&str| {
        !class.is_empty() && class.len() < 60 && class.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    Some(object.class()).filter(is_plain).unwrap_or("schema.json").to_owned()
}

/// The steps of a pipeline, and of pipelines in it. A model alone is one step.
fn stages(root: Object<'_>) -> Result<Vec<Object<'_>>, Problem> {
    check_version(root)?;
    if root.class() != "Pipeline" {
        return Ok(vec![root]);
    }
    let mut all = Vec::new();
    for step in root.get("steps")?.items()? {
        let step = step?.items()?.nth(1).ok_or_else(|| Problem::malformed("a step has no transformer"))??;
        let is_passed = step.is_none() || step.string().as_deref() == Some("passthrough");
        if !is_passed {
            all.extend(stages(step)?);
        }
    }
    Ok(all)
}

/// Refuses an object that no supported version of a supported library wrote.
fn check_version(object: Object<'_>) -> Result<(), Problem> {
    let path = object.path();
    if path.starts_with("xgboost.") {
        let instead = "save it with model.save_model(\"model.json\")";
        return Err(Problem::unsupported("XGBoost in a skops file", instead));
    }
    if !path.starts_with("sklearn.") && !path.starts_with("lightgbm.") {
        return Err(steps::unknown(object));
    }
    let version = object.option("_sklearn_version");
    let minor = version.strip_prefix("1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    match minor {
        Some(minor) if VERSIONS.contains(&minor) => Ok(()),
        None if version.is_empty() && path.starts_with("lightgbm.") => Ok(()),
        _ => Err(Problem::unsupported(
            format!("scikit-learn {}", if version.is_empty() { "of an unknown version" } else { &version }),
            "save the model with scikit-learn 1.3 to 1.9, or convert it to ONNX with skl2onnx",
        )),
    }
}

fn input_count(file: &File<'_>, first: Object<'_>) -> Result<usize, Problem> {
    for name in ["n_features_in_", "_n_features"] {
        if first.optional(name).is_some() {
            return file.count(first, name);
        }
    }
    if first.class() == "Booster" {
        return Ok(lightgbm_model(first, file.limits)?.inputs.len());
    }
    // A transformer that is not supported is better named than its missing count.
    Err(steps::unknown(first))
}

fn input_names(file: &File<'_>, first: Object<'_>) -> Result<Option<Vec<String>>, Problem> {
    first.optional("feature_names_in_").map(|names| file.texts(names)).transpose()
}

fn check_width(file: &File<'_>, step: Object<'_>, width: usize) -> Result<(), Problem> {
    check_version(step)?;
    if step.optional("n_features_in_").is_some() {
        let count = file.count(step, "n_features_in_")?;
        if count != width {
            return Err(Problem::malformed(format!("it takes {count} columns, but gets {width}")));
        }
    }
    Ok(())
}

/// The row after a step of the outermost pipeline.
fn transformed(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    if step.class() == "Normalizer" {
        check_width(file, step, row.len())?;
        return to.normalize(row, steps::norm(step)?);
    }
    nested(file, step, row, to)
}

/// The row after a step that may apply to some columns only.
fn nested(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    check_width(file, step, row.len())?;
    match step.class() {
        "ColumnTransformer" => columns(file, step, row, to),
        "Pipeline" => {
            let mut row = row.clone();
            for step in stages(step)? {
                row = nested(file, step, &row, to)?;
            }
            Ok(row)
        }
        "Normalizer" => {
            Err(Problem::unsupported("a Normalizer of some columns only", "normalise all columns, or none"))
        }
        _ => steps::transformed(file, step, row, to),
    }
}

/// The columns of each transformer of a `ColumnTransformer`, side by side.
fn columns(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    if step.optional("transformer_weights").is_some() {
        return Err(Problem::unsupported("a ColumnTransformer with weights", steps::EXPORT));
    }
    let indices = step.get("_transformer_to_input_indices")?;
    let mut all = Row::new();
    for part in step.get("transformers_")?.items()? {
        let mut part = part?.items()?;
        let cut = || Problem::malformed("a transformer has no name");
        let name = part.next().ok_or_else(cut)??.string().ok_or_else(cut)?;
        let transformer = part.next().ok_or_else(cut)??;
        let word = transformer.string();
        let indices = file.numbers(indices, &name)?;
        if indices.is_empty() || word.as_deref() == Some("drop") {
            continue;
        }
        let chosen = indices.iter().map(|index| {
            let column = whole(*index).and_then(|index| row.get(index));
            column.cloned().ok_or_else(|| Problem::malformed(format!("column {index} does not exist")))
        });
        let chosen: Row = chosen.collect::<Result<_, _>>()?;
        to.spend(chosen.len())?;
        if word.as_deref() == Some("passthrough") {
            all.extend(chosen);
        } else {
            all.extend(nested(file, transformer, &chosen, to)?);
        }
    }
    Ok(all)
}

/// The row with the order and the categories of a model that encodes its categories itself.
fn remapped(file: &File<'_>, model: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    match model.optional("_preprocessor") {
        Some(preprocessor) => nested(file, preprocessor, row, to),
        None if model.optional("is_categorical_").is_some() => Err(Problem::unsupported(
            "categorical_features in a file of scikit-learn 1.3",
            "train the model with scikit-learn 1.4 to 1.9",
        )),
        None => Ok(row.clone()),
    }
}

/// Reads the model of a pipeline.
fn predictor(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Predictor, Problem> {
    let read = match model.class() {
        "RandomForestClassifier"
        | "RandomForestRegressor"
        | "ExtraTreesClassifier"
        | "ExtraTreesRegressor"
        | "DecisionTreeClassifier"
        | "DecisionTreeRegressor"
        | "ExtraTreeClassifier"
        | "ExtraTreeRegressor" => trees::read,
        "GradientBoostingClassifier" | "GradientBoostingRegressor" => boosting::gradient,
        "HistGradientBoostingClassifier" | "HistGradientBoostingRegressor" => boosting::histogram,
        "LogisticRegression" | "LogisticRegressionCV" | "SGDClassifier" => linear::classifier,
        "LinearRegression"
        | "Ridge"
        | "RidgeCV"
        | "Lasso"
        | "LassoCV"
        | "ElasticNet"
        | "ElasticNetCV"
        | "MultiTaskLasso"
        | "MultiTaskElasticNet"
        | "BayesianRidge"
        | "ARDRegression"
        | "HuberRegressor"
        | "SGDRegressor"
        | "QuantileRegressor"
        | "PoissonRegressor"
        | "GammaRegressor"
        | "TweedieRegressor" => linear::regressor,
        _ => return Err(steps::unknown(model)),
    };
    read(file, model, inputs)
}

/// The `LightGBM` model that a class of `LightGBM` holds as text.
fn lightgbm_model(model: Object<'_>, limits: &Limits) -> Result<ImportedModel, Problem> {
    let booster = if model.class() == "Booster" { model } else { model.get("_Booster")? };
    let text = ["_handle", "handle"].iter().find_map(|name| booster.find(name)?.string());
    let text = text.ok_or_else(|| Problem::malformed("the booster has no model"))?;
    lightgbm::read(text.as_bytes(), limits).map_err(|error| error.problem)
}

fn boosted(
    file: &File<'_>,
    last: Object<'_>,
    mut preparation: Preparation,
    row: &Row,
) -> Result<ImportedModel, ReadError> {
    let read = || {
        check_version(last)?;
        let mut model = lightgbm_model(last, file.limits)?;
        if model.inputs.len() != row.len() {
            let (count, width) = (model.inputs.len(), row.len());
            return Err(Problem::malformed(format!("it takes {count} columns, but gets {width}")));
        }
        if last.is_set("_best_iteration") || last.is_set("best_iteration") {
            return Err(Problem::unsupported(
                "LightGBM with early stopping in a skops file",
                "save it with model.booster_.save_model(\"model.txt\"), which keeps the best iteration",
            ));
        }
        preparation.complete(row)?;
        let (inputs, mut steps) = preparation.finish();
        let is_plain = |kind: &InputKind| *kind == InputKind::Numeric;
        if steps.is_empty() {
            // The names of the file have no spaces, those of scikit-learn do.
            let names = inputs.into_iter().map(|input| input.name);
            for (input, name) in model.inputs.iter_mut().zip(names) {
                input.name = name.or(input.name.take());
            }
        } else if model.inputs.iter().all(|input| is_plain(&input.kind)) {
            model.inputs = inputs;
        } else {
            let what = "LightGBM with categories behind other steps";
            return Err(Problem::unsupported(what, "encode the categories in a step"));
        }
        steps.append(&mut model.steps);
        if let Output::Classes(labels) = &mut model.output
            && last.optional("_classes").is_some()
        {
            let names = file.labels(last, "_classes")?;
            if names.len() != labels.len() {
                let (found, count) = (names.len(), labels.len());
                return Err(Problem::malformed(format!("{found} labels are given for {count} classes")));
            }
            *labels = names;
        }
        Ok(ImportedModel { format: FORMAT, steps, ..model })
    };
    read().map_err(|problem| problem.at(FORMAT, place(last)))
}
