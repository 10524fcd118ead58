//! The response bodies of a prediction: the predictor's, and the gateway's made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schema::Feature;

/// The body of a request for predictions: exactly one of `features` and `instances`.
/// This type is for the API's description and for clients; a server reads the body with [`crate::body::parse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictRequest {
    /// One row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<RequestRow>,
    /// Many rows; they are answered in the same order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<Vec<RequestRow>>,
    /// Whether the answer has the probabilities of all classes. Only for a classification.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probabilities: bool,
}

/// A row of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RequestRow {
    /// A value per feature, in the order of the features.
    #[schema(example = json!([1.0, 2.0, -0.5, 0.3]))]
    Values(Vec<Cell>),
    /// A value per feature by its name, in any order.
    #[schema(example = json!({"sepal_length": 5.1, "sepal_width": 3.5}))]
    Named(BTreeMap<String, Cell>),
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Cell {
    /// A finite number. For a category it is its name, if that is a number, or its index.
    Number(f64),
    /// The name of a category.
    Category(String),
    /// A missing value, which not every feature takes.
    Missing,
}

impl PredictRequest {
    /// One row: NaN is a missing value, and a category is its index.
    pub fn row(values: &[f64], features: &[Feature]) -> Self {
        let mut features = features.iter();
        let cell = |value: &f64| match features.next().and_then(|feature| feature.category(*value)) {
            _ if value.is_nan() => Cell::Missing,
            Some(name) => Cell::Category(name.to_owned()),
            None => Cell::Number(*value),
        };
        let row = RequestRow::Values(values.iter().map(cell).collect());
        Self { features: Some(row), ..Self::default() }
    }
}

/// A class and its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowAnswer {
    /// The index of the most probable class.
    pub prediction: u32,
    /// Its probability.
    pub confidence: f64,
}

/// A predictor's answer for one row: a class, or the values of a regression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RowResponse {
    /// Of a classification.
    Class(ClassResponse),
    /// Of a regression.
    Value(ValueResponse),
}

/// A predictor's answer for one row of a classification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClassResponse {
    /// The index of the most probable class.
    #[schema(example = 1)]
    pub prediction: u32,
    /// Its probability.
    #[schema(example = 0.87)]
    pub confidence: f64,
    /// The probability of each class in the order of the classes, if the request has `probabilities`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!([0.13, 0.87]))]
    pub probabilities: Option<Vec<f64>>,
}

/// A predictor's answer for one row of a regression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ValueResponse {
    /// The value, or a list of the values of a model with several outputs.
    #[schema(example = 3.2)]
    pub prediction: OneOrMore,
}

/// A number, or a list of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    /// A number.
    One(f64),
    /// A list.
    More(Vec<f64>),
}

/// A predictor's answer for many rows, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowsAnswer {
    /// One answer per row.
    pub predictions: Vec<RowResponse>,
}

/// A predictor's response: one prediction for a request with `features`, a list for one with `instances`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PredictResponse {
    /// For `features`.
    Row(RowResponse),
    /// For `instances`.
    Rows(RowsAnswer),
}

/// The gateway's prediction for one row: a class with its probability, or a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// The index of the most probable class, for a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub class: Option<u32>,
    /// Its name, where the model has names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.87)]
    pub proba: Option<f64>,
    /// The probability of each class, if the request has `probabilities`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Probabilities>,
    /// The value, for a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The values by name, for a regression with several outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<BTreeMap<String, f64>>,
}

/// The probability of each class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Probabilities {
    /// By the index of the class, where classes have no names.
    Listed(Vec<f64>),
    /// By the name of the class.
    #[schema(example = json!({"no": 0.13, "yes": 0.87}))]
    Named(BTreeMap<String, f64>),
}

/// The gateway's answer: `prediction` and `confidence` for one row, `predictions` for many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// Always true: a failure is answered with a problem instead.
    pub success: bool,
    /// The prediction, if the request had `features`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// The predictions in the order of the rows, if the request had `instances`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<Vec<Prediction>>,
    /// The probability of `prediction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.87)]
    pub confidence: Option<f64>,
    /// The model that answered.
    #[schema(example = "demo")]
    pub service: String,
    /// Its version, as people label it.
    #[schema(example = "1.0")]
    pub version: String,
    /// The id of this answer, also in the header `Canopy-Prediction-Id`.
    pub id: String,
    /// Whether the answer was kept from an earlier request.
    pub cached: bool,
}

/// A predictor's `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `unhealthy` while the model is not proven.
    #[schema(example = "healthy")]
    pub status: String,
    /// The model's name.
    #[schema(example = "demo")]
    pub model: String,
    /// Its version.
    #[schema(example = "1.0")]
    pub version: String,
    /// Whether there is a trained model.
    pub trained: bool,
    /// Why it is unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
