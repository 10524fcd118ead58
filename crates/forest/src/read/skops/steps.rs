//! The transformers of scikit-learn in front of a model: scaling, imputing and encoding.

use std::sync::Arc;

use crate::data::seen::Seen;
use crate::ensemble::precision::Precision;
use crate::read::columns::{Change, Column, Norm, Table};
use crate::read::error::Problem;
use crate::read::skops::file::{File, Value};
use crate::read::skops::row::{Preparation, Row};
use crate::read::skops::schema::Object;
use crate::read::whole::whole;

const PRECISION: Precision = Precision::Double;
/// What to do about a step that is not supported.
pub(crate) const EXPORT: &str = "convert the model to ONNX with skl2onnx, as docs/onnx.md shows";

/// The row after a transformer.
pub(crate) fn transformed(
    file: &File<'_>,
    step: Object<'_>,
    row: &Row,
    to: &mut Preparation,
) -> Result<Row, Problem> {
    match step.class() {
        "StandardScaler" => standard(file, step, row, to),
        "RobustScaler" => robust(file, step, row, to),
        "MaxAbsScaler" => divided(row, to, None, Some(&file.counted(step, "scale_", row.len())?)),
        "MinMaxScaler" => min_max(file, step, row, to),
        "SimpleImputer" => imputed(file, step, row, to),
        "OneHotEncoder" => one_hot(file, step, row, to),
        "OrdinalEncoder" => ordinal(file, step, row, to),
        "FunctionTransformer" if is_identity(step) => Ok(row.clone()),
        "FunctionTransformer" => Err(Problem::unsupported("a function of your own", EXPORT)),
        _ => Err(unknown(step)),
    }
}

/// The refusal of a step that is not known.
pub(crate) fn unknown(step: Object<'_>) -> Problem {
    let path = step.path();
    Problem::unsupported(Seen::new(&path).to_string().trim_matches('"').to_owned(), EXPORT)
}

/// The norm of a `Normalizer`.
pub(crate) fn norm(step: Object<'_>) -> Result<Norm, Problem> {
    match &step.option("norm")[..] {
        "l1" => Ok(Norm::L1),
        "l2" => Ok(Norm::L2),
        "max" => Ok(Norm::MaxAbs),
        other => Err(Problem::unsupported(format!("norm {}", Seen::new(other)), EXPORT)),
    }
}

/// Whether a `FunctionTransformer` passes rows on.
fn is_identity(step: Object<'_>) -> bool {
    let check = "sklearn.utils.validation.check_array";
    step.find("func").is_none_or(|func| func.is_none() || func.partial_of().as_deref() == Some(check))
}

fn standard(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    let numbers = |is_used, name| {
        if step.is_set(is_used) { file.counted(step, name, row.len()).map(Some) } else { Ok(None) }
    };
    let (offsets, divisors) = (numbers("with_mean", "mean_")?, numbers("with_std", "scale_")?);
    divided(row, to, offsets.as_deref(), divisors.as_deref())
}

fn robust(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    let numbers = |is_used, name| {
        if step.is_set(is_used) { file.counted(step, name, row.len()).map(Some) } else { Ok(None) }
    };
    let (offsets, divisors) = (numbers("with_centering", "center_")?, numbers("with_scaling", "scale_")?);
    divided(row, to, offsets.as_deref(), divisors.as_deref())
}

/// `(value - offset) / divisor`.
fn divided(
    row: &Row,
    to: &mut Preparation,
    offsets: Option<&[f64]>,
    divisors: Option<&[f64]>,
) -> Result<Row, Problem> {
    let column = |(index, column): (usize, &Column)| {
        let offset = offsets.map(|offsets| offsets[index]);
        let offset = offset.map(|offset| Change::Scale { offset, scale: 1.0, precision: PRECISION });
        let divisor = divisors.map(|divisors| divisors[index]);
        let divisor = divisor.map(|divisor| Change::Divide { divisor, precision: PRECISION });
        to.changed(column, offset.into_iter().chain(divisor))
    };
    row.iter().enumerate().map(column).collect()
}

/// `value * scale + min`, and a clip on request.
fn min_max(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    let scales = file.counted(step, "scale_", row.len())?;
    let offsets = file.counted(step, "min_", row.len())?;
    let clamp = if step.is_set("clip") {
        let range = file.counted(step, "feature_range", 2)?;
        Some(Change::Clamp { least: range[0], most: range[1] })
    } else {
        None
    };
    let column = |(index, column): (usize, &Column)| {
        let (scale, offset) = (scales[index], -offsets[index]);
        let changes = [
            Change::Scale { offset: 0.0, scale, precision: PRECISION },
            Change::Scale { offset, scale: 1.0, precision: PRECISION },
        ];
        to.changed(column, changes.into_iter().chain(clamp.clone()))
    };
    row.iter().enumerate().map(column).collect()
}

fn imputed(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    if step.is_set("add_indicator") {
        return Err(Problem::unsupported("SimpleImputer with add_indicator", EXPORT));
    }
    let missing = Value::of(step.get("missing_values")?)?;
    let statistics = file.values(step.get("statistics_")?)?;
    if statistics.len() != row.len() {
        let (found, count) = (statistics.len(), row.len());
        return Err(Problem::malformed(format!("`statistics_` must have {count} values, got {found}")));
    }
    let mut columns = Vec::new();
    for (column, statistic) in row.iter().zip(statistics) {
        let is_text = matches!(statistic, Value::Text(_)) || matches!(missing, Value::Text(_));
        let with = match statistic {
            // A column without any value is left out, or gets 0 or the constant that its statistic is then.
            Value::Missing if step.is_set("keep_empty_features") => {
                return Err(Problem::unsupported("SimpleImputer of a column without values", EXPORT));
            }
            Value::Missing => continue,
            Value::Number(number) => number,
            Value::Text(text) => to.category(column, &text)?,
        };
        let value = match &missing {
            Value::Missing => f64::NAN,
            Value::Number(number) => *number,
            Value::Text(text) => to.category(column, text)?,
        };
        let change = [Change::Replace { value, with }];
        columns.push(if is_text { to.extended(column, change)? } else { to.changed(column, change)? });
    }
    Ok(columns)
}

/// The categories of a column as numbers, in their order.
struct Categories {
    keys: Vec<f64>,
    /// What stands for a missing value.
    missing: f64,
    has_missing: bool,
}

/// The categories of each column.
fn categories(
    file: &File<'_>,
    step: Object<'_>,
    row: &Row,
    to: &mut Preparation,
) -> Result<Vec<Categories>, Problem> {
    let is_grouped = step.is_set("_infrequent_enabled")
        || step.optional("min_frequency").is_some()
        || step.optional("max_categories").is_some();
    if is_grouped {
        return Err(Problem::unsupported("an encoder with min_frequency or max_categories", EXPORT));
    }
    let lists = step.get("categories_")?.items()?;
    if lists.len() != row.len() {
        let (found, count) = (lists.len(), row.len());
        return Err(Problem::malformed(format!("`categories_` must have {count} lists, got {found}")));
    }
    let of_column = |(list, column): (Result<Object<'_>, Problem>, &Column)| {
        let values = file.values(list?)?;
        to.spend(values.len())?;
        let is_text = values.iter().any(|value| matches!(value, Value::Text(_)));
        // No category has these numbers.
        let missing = if is_text { -1.0 } else { f64::INFINITY };
        if !is_text {
            to.number(column)?;
        }
        let has_missing = values.contains(&Value::Missing);
        let keys = values.into_iter().map(|value| match value {
            Value::Missing => Ok(missing),
            Value::Text(text) => to.category(column, &text),
            Value::Number(number) if !is_text => Ok(number),
            Value::Number(_) => {
                Err(Problem::unsupported("a column with categories that are texts and numbers", EXPORT))
            }
        });
        Ok(Categories { keys: keys.collect::<Result<_, Problem>>()?, missing, has_missing })
    };
    lists.zip(row).map(of_column).collect()
}

fn one_hot(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    let all = categories(file, step, row, to)?;
    let dropped = match step.optional("drop_idx_") {
        None => vec![Value::Missing; row.len()],
        Some(dropped) => file.values(dropped)?,
    };
    if dropped.len() != row.len() {
        return Err(Problem::malformed("`drop_idx_` does not have one index for each column"));
    }
    let is_strict = step.option("handle_unknown") == "error";
    let mut columns = Vec::new();
    for ((column, categories), dropped) in row.iter().zip(all).zip(dropped) {
        let dropped = match dropped {
            Value::Missing => None,
            Value::Number(index) => whole(index),
            Value::Text(_) => return Err(Problem::malformed("`drop_idx_` has a text")),
        };
        // A missing value that training did not have stays missing, where scikit-learn refuses it.
        let replace = (categories.has_missing || !is_strict)
            .then_some(Change::Replace { value: f64::NAN, with: categories.missing });
        for (index, key) in categories.keys.iter().enumerate() {
            if Some(index) != dropped {
                columns.push(to.extended(column, replace.clone().into_iter().chain([Change::Is(*key)]))?);
            }
        }
    }
    Ok(columns)
}

fn ordinal(file: &File<'_>, step: Object<'_>, row: &Row, to: &mut Preparation) -> Result<Row, Problem> {
    let all = categories(file, step, row, to)?;
    let number = |name| step.find(name).and_then(Object::number).unwrap_or(f64::NAN);
    let is_encoded = step.option("handle_unknown") == "use_encoded_value";
    let unknown = if is_encoded { number("unknown_value") } else { f64::NAN };
    let for_missing = number("encoded_missing_value");
    let mut columns = Vec::new();
    for (column, Categories { keys, missing, .. }) in row.iter().zip(all) {
        let pairs = keys.into_iter().enumerate().map(|(index, key)| {
            let is_missing = key.to_bits() == missing.to_bits();
            (key, if is_missing { for_missing } else { index as f64 })
        });
        let table = Arc::new(Table::new(pairs, unknown));
        let changes = [Change::Replace { value: f64::NAN, with: missing }, Change::Map(table)];
        columns.push(to.extended(column, changes)?);
    }
    Ok(columns)
}
