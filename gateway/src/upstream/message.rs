//! The body of a request to a predictor, the validation of its response, and the body of the client's response. A response with
//! a class that the model does not have is rejected.

use bytes::Bytes;
use canopy_contract::body::Body;
use canopy_contract::describe::{ModelDescription, Task};
use canopy_contract::predict::RowAnswer;
use canopy_contract::rows::Rows;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::revision::Revision;

/// The longest response, in bytes, apart from its rows; leaves room for members that later predictors add.
const RESPONSE_BASE_BYTES: usize = 16 << 10;
/// The longest response per row, in bytes.
const RESPONSE_ROW_BYTES: usize = 256;
/// The longest number of a row that has several, in bytes.
const RESPONSE_NUMBER_BYTES: usize = 32;
/// By how much a probability may exceed 1 through rounding.
const ROUNDING: f64 = 1e-6;

/// A valid response: one answer per row.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    /// Whether the request had `features`.
    is_single: bool,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
enum Kind {
    /// A class of the model for each row; the probabilities of all classes, row after row, if they were requested.
    Classes { answers: Vec<RowAnswer>, probabilities: Option<Vec<f64>> },
    /// Finite values, `width` for each row.
    Values { values: Vec<f64>, width: usize },
}

/// The answer for a row, or the answers for several.
#[derive(Deserialize)]
struct Predictions<T> {
    predictions: Vec<T>,
}

/// A predictor's answer for one row, with the probabilities of all classes.
#[derive(Deserialize)]
struct WithProbabilities {
    #[serde(flatten)]
    answer: RowAnswer,
    probabilities: Vec<f64>,
}

#[derive(Deserialize)]
struct OneValue {
    prediction: f64,
}

#[derive(Deserialize)]
struct SeveralValues {
    prediction: Vec<f64>,
}

/// The body of a request to a predictor.
pub(crate) fn encode_request(rows: &Rows, probabilities: bool) -> Result<Bytes, serde_json::Error> {
    // A 64-bit float takes about 20 characters.
    let mut body = Vec::with_capacity(64 + rows.values().len() * 20);
    let (before, after): (&[u8], &[u8]) =
        if rows.is_single() { (br#"{"features":"#, b"") } else { (br#"{"instances":["#, b"]") };
    body.extend_from_slice(before);
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, row)?;
    }
    body.extend_from_slice(after);
    body.extend_from_slice(if probabilities { br#","probabilities":true}"# } else { b"}" });
    Ok(body.into())
}

/// The longest valid response for `rows` rows with `outputs` further numbers each, in bytes.
pub(crate) fn response_max(rows: usize, outputs: usize) -> usize {
    RESPONSE_BASE_BYTES + rows * (RESPONSE_ROW_BYTES + outputs * RESPONSE_NUMBER_BYTES)
}

fn rows<T: DeserializeOwned>(body: &[u8], is_single: bool) -> Result<Vec<T>, String> {
    let unreadable = |error: serde_json::Error| format!("invalid response: {error}");
    if is_single {
        return Ok(vec![serde_json::from_slice(body).map_err(unreadable)?]);
    }
    let Predictions { predictions } = serde_json::from_slice(body).map_err(unreadable)?;
    Ok(predictions)
}

/// Parses and validates the predictor's response to `request`.
pub(crate) fn decode_response(
    body: &[u8],
    request: &Body,
    model: &ModelDescription,
) -> Result<Answers, String> {
    let is_single = request.is_single();
    let kind = match model.task {
        Task::Classification if request.probabilities => {
            let rows: Vec<WithProbabilities> = rows(body, is_single)?;
            let answers = rows.iter().map(|row| row.answer).collect();
            let widths: Vec<_> = rows.iter().map(|row| row.probabilities.len()).collect();
            check_width(&widths, model.classes.len(), "probabilities")?;
            let probabilities = rows.into_iter().flat_map(|row| row.probabilities).collect();
            Kind::Classes { answers, probabilities: Some(probabilities) }
        }
        Task::Classification => Kind::Classes { answers: rows(body, is_single)?, probabilities: None },
        Task::Regression if model.outputs.len() > 1 => {
            let rows: Vec<SeveralValues> = rows(body, is_single)?;
            let widths: Vec<_> = rows.iter().map(|row| row.prediction.len()).collect();
            check_width(&widths, model.outputs.len(), "values")?;
            let values = rows.into_iter().flat_map(|row| row.prediction).collect();
            Kind::Values { values, width: model.outputs.len() }
        }
        Task::Regression => {
            let rows: Vec<OneValue> = rows(body, is_single)?;
            Kind::Values { values: rows.into_iter().map(|row| row.prediction).collect(), width: 1 }
        }
    };
    let answers = Answers { is_single, kind };
    if answers.rows() != request.len() {
        return Err(format!("the response has {} rows, expected {}", answers.rows(), request.len()));
    }
    answers.check_classes(model)?;
    Ok(answers)
}

fn check_width(widths: &[usize], expected: usize, what: &str) -> Result<(), String> {
    match widths.iter().find(|width| **width != expected) {
        Some(width) => Err(format!("the response has {width} {what} for a row, expected {expected}")),
        None => Ok(()),
    }
}

impl Answers {
    /// One class, for the tests of other modules.
    #[cfg(test)]
    pub(crate) fn one_class(prediction: u32, confidence: f64) -> Self {
        Self { is_single: true, ..Self::classes_of(&[(prediction, confidence)]) }
    }

    /// Several classes, for the tests of other modules.
    #[cfg(test)]
    pub(crate) fn classes_of(rows: &[(u32, f64)]) -> Self {
        let row = |&(prediction, confidence): &(u32, f64)| RowAnswer { prediction, confidence };
        let kind = Kind::Classes { answers: rows.iter().map(row).collect(), probabilities: None };
        Self { is_single: false, kind }
    }

    fn check_classes(&self, model: &ModelDescription) -> Result<(), String> {
        let Kind::Classes { answers, probabilities } = &self.kind else { return Ok(()) };
        if let Some(RowAnswer { prediction, .. }) =
            answers.iter().find(|answer| answer.prediction as usize >= model.classes.len())
        {
            return Err(format!(
                "the response has class {prediction}, but the model has {} classes",
                model.classes.len()
            ));
        }
        let further = probabilities.iter().flatten().copied();
        let mut all = answers.iter().map(|answer| answer.confidence).chain(further);
        match all.find(|probability| !(0.0..=1.0 + ROUNDING).contains(probability)) {
            Some(probability) => {
                Err(format!("the response has the probability {probability}, expected 0 to 1"))
            }
            None => Ok(()),
        }
    }

    /// The classes in the order of the rows; none for a regression.
    pub(crate) fn classes(&self) -> &[RowAnswer] {
        match &self.kind {
            Kind::Classes { answers, .. } => answers,
            Kind::Values { .. } => &[],
        }
    }

    /// How many rows have an answer.
    pub(crate) fn rows(&self) -> usize {
        match &self.kind {
            Kind::Classes { answers, .. } => answers.len(),
            Kind::Values { values, width } => values.len() / width,
        }
    }

    /// Whether the model is a regression.
    pub(crate) fn are_values(&self) -> bool {
        matches!(self.kind, Kind::Values { .. })
    }

    /// The class, if the request had `features`.
    pub(crate) fn one(&self) -> Option<&RowAnswer> {
        self.classes().first().filter(|_| self.is_single)
    }

    /// The value, if the request had `features` and the model has one value for a row.
    pub(crate) fn only_value(&self) -> Option<f64> {
        match &self.kind {
            Kind::Values { values, width: 1 } if self.is_single => values.first().copied(),
            Kind::Values { .. } | Kind::Classes { .. } => None,
        }
    }

    /// The body of the client's response, as described by `contract::predict::Answer`.
    pub(crate) fn write(&self, revision: &Revision, id: &str) -> Result<Bytes, serde_json::Error> {
        let model = &revision.description;
        let class = |answer, probabilities| Prediction::class(model, answer, probabilities);
        let mut predictions: Vec<_> = match &self.kind {
            Kind::Classes { answers, probabilities: None } => {
                answers.iter().map(|answer| class(answer, None)).collect()
            }
            Kind::Classes { answers, probabilities: Some(all) } => {
                let of_rows = all.chunks_exact(model.classes.len().max(1));
                let named = |of_row| match &revision.class_names {
                    Some(names) => Probabilities::Named(NamedNumbers { names, numbers: of_row }),
                    None => Probabilities::Listed(of_row),
                };
                answers
                    .iter()
                    .zip(of_rows)
                    .map(|(answer, of_row)| class(answer, Some(named(of_row))))
                    .collect()
            }
            Kind::Values { values, width: 1 } => {
                values.iter().map(|value| Prediction::Value { value: *value }).collect()
            }
            Kind::Values { values, width } => {
                let named = |numbers| NamedNumbers { names: &model.outputs, numbers };
                values
                    .chunks_exact(*width)
                    .map(|values| Prediction::Values { values: named(values) })
                    .collect()
            }
        };
        let length = 192 + self.rows() * (64 + self.further_numbers() / self.rows().max(1) * 32);
        let prediction = if self.is_single { predictions.pop() } else { None };
        let answer = Answer {
            success: true,
            confidence: self.one().map(|one| one.confidence),
            prediction,
            predictions: (!self.is_single).then_some(predictions),
            service: model.model.as_str(),
            version: &model.version,
            id,
            cached: false,
        };
        let mut body = Vec::with_capacity(length);
        serde_json::to_writer(&mut body, &answer)?;
        Ok(body.into())
    }

    fn further_numbers(&self) -> usize {
        match &self.kind {
            Kind::Classes { probabilities, .. } => probabilities.as_ref().map_or(0, Vec::len),
            Kind::Values { width: 1, .. } => 0,
            Kind::Values { values, .. } => values.len(),
        }
    }
}

/// Numbers by name, as a JSON object in the order of the names.
struct NamedNumbers<'a> {
    names: &'a [String],
    numbers: &'a [f64],
}

impl Serialize for NamedNumbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.names.iter().zip(self.numbers))
    }
}

/// The probability of each class.
#[derive(Serialize)]
#[serde(untagged)]
enum Probabilities<'a> {
    Named(NamedNumbers<'a>),
    Listed(&'a [f64]),
}

/// The same as `contract::predict::Answer`, with borrowed values: it is written once per request.
#[derive(Serialize)]
struct Answer<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<Prediction<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    service: &'a str,
    version: &'a str,
    id: &'a str,
    cached: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Prediction<'a> {
    Class {
        class: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<&'a str>,
        proba: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        probabilities: Option<Probabilities<'a>>,
    },
    Value {
        value: f64,
    },
    Values {
        values: NamedNumbers<'a>,
    },
}

impl<'a> Prediction<'a> {
    fn class(
        model: &'a ModelDescription,
        answer: &RowAnswer,
        probabilities: Option<Probabilities<'a>>,
    ) -> Self {
        Self::Class {
            class: answer.prediction,
            label: model.classes.get(answer.prediction as usize).and_then(|class| class.name()),
            proba: answer.confidence,
            probabilities,
        }
    }
}

#[cfg(test)]
mod tests;
