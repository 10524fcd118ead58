//! Examples of a config: rows with the answers that the model must give before it serves.

use canopy_contract::rows::Rows;
use canopy_contract::schema::{self, CategoryNumbers, Class, Feature};
use canopy_contract::serving::{Example, ExampleValue, Expected};
use canopy_forest::data::seen::{Names, Seen};

use crate::engine::head::Answer;
use crate::engine::interface::EngineError;
use crate::engine::loaded::LoadedModel;

/// The accepted difference of a value without a tolerance, relative to the expected value but at least absolute: what the
/// conversion of a model between libraries may change.
const TOLERANCE: f64 = 1e-5;

/// Why the examples are not what the model answers.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    /// A row is not one of this model.
    #[error("examples[{index}].features: {problem}")]
    Row {
        /// The index of the example.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// The answer is another one.
    #[error("examples[{index}]: expected {expected}, but the model answers {found}")]
    Answer {
        /// The index of the example.
        index: usize,
        /// The expected answer.
        expected: String,
        /// The answer of the model.
        found: String,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] EngineError),
}

/// Predicts each example and compares the answers; returns the rows.
pub fn check(
    examples: &[Example],
    model: &LoadedModel,
    features: &[Feature],
    classes: &[Class],
) -> Result<Vec<Vec<f64>>, ExampleError> {
    let mut rows = Vec::with_capacity(examples.len());
    for (index, example) in examples.iter().enumerate() {
        let row = row(&example.features, features).map_err(|problem| ExampleError::Row { index, problem })?;
        let single = Rows::single(row.clone());
        schema::check(&single, features).map_err(|faults| {
            let problem = faults.first().map(ToString::to_string).unwrap_or_default();
            ExampleError::Row { index, problem }
        })?;
        let answers = model.predict(&single).map_err(|error| match error {
            EngineError::Input { row: _, column, must, value } => {
                let name = features.get(column).map_or("", |feature| &feature.name);
                let problem = format!("feature {} {must}, but is {value}", Seen::new(name));
                ExampleError::Row { index, problem }
            }
            EngineError::Values { .. } | EngineError::Failed(_) => ExampleError::Model(error),
        })?;
        if let Some(answer) = answers.into_iter().next() {
            compare(index, &example.expected, &answer, classes)?;
        }
        rows.push(row);
    }
    Ok(rows)
}

fn row(values: &[ExampleValue], features: &[Feature]) -> Result<Vec<f64>, String> {
    if values.len() != features.len() {
        return Err(format!(
            "must have {} values, one per feature, but has {}",
            features.len(),
            values.len()
        ));
    }
    values.iter().zip(features).map(|(value, feature)| number(value, feature)).collect()
}

fn number(value: &ExampleValue, feature: &Feature) -> Result<f64, String> {
    let name = Seen::new(&feature.name);
    match value {
        ExampleValue::Number(number) if feature.categories.is_empty() => Ok(*number),
        ExampleValue::Number(number) => {
            CategoryNumbers::new(feature).index(*number).map_err(|fault| format!("feature {name} {fault}"))
        }
        ExampleValue::Missing if feature.missing => Ok(f64::NAN),
        ExampleValue::Missing => Err(format!("feature {name} is null, but takes no missing values")),
        ExampleValue::Category(text) => {
            let index = feature.categories.iter().position(|category| category == text);
            match index {
                Some(index) => Ok(index as f64),
                None if feature.categories.is_empty() => {
                    Err(format!("feature {name} must be a number, but is the text {}", Seen::new(text)))
                }
                None => {
                    let known = Names::new(feature.categories.iter().map(String::as_str));
                    Err(format!("feature {name} has no category {}, but {known}", Seen::new(text)))
                }
            }
        }
    }
}

fn compare(
    index: usize,
    expected: &Expected,
    answer: &Answer,
    classes: &[Class],
) -> Result<(), ExampleError> {
    let Expected { class, label, value, tolerance } = expected;
    let name = |class: u32| classes.get(class as usize).and_then(Class::name);
    let shown = || match (answer.class(), answer.confidence()) {
        (Some(class), Some(confidence)) => match name(class) {
            Some(name) => format!("{} with probability {confidence}", Seen::new(name)),
            None => format!("class {class} with probability {confidence}"),
        },
        _ => answer.to_string(),
    };
    let (is_right, wanted) = if let Some(class) = class {
        (answer.class() == Some(*class), format!("class {class}"))
    } else if let Some(label) = label {
        (answer.class().and_then(name) == Some(label), format!("{}", Seen::new(label)))
    } else {
        let value = value.unwrap_or(f64::NAN);
        let tolerance = tolerance.unwrap_or(TOLERANCE * value.abs().max(1.0));
        let is_near = answer.value().is_some_and(|found| (found - value).abs() <= tolerance);
        (is_near, format!("{value} with a tolerance of {tolerance}"))
    };
    if is_right {
        return Ok(());
    }
    Err(ExampleError::Answer { index, expected: wanted, found: shown() })
}
