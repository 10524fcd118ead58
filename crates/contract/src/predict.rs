//! The response bodies of a prediction: the predictor's, and the gateway's made from it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What either process takes at its prediction routes: `features` for one row, or `instances` for many.
/// This type is for the API's description and for clients; a server reads the body with [`crate::body::parse`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PredictRequest {
    /// One row: a finite number per feature of the model.
    #[schema(example = json!([1.0, 2.0, -0.5, 0.3]))]
    Features(Vec<f64>),
    /// Many rows.
    Instances(Vec<Vec<f64>>),
}

/// A predictor's answer for one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowAnswer {
    /// The index of the most probable class.
    #[schema(example = 1)]
    pub prediction: u32,
    /// Its probability.
    #[schema(example = 0.87)]
    pub confidence: f64,
}

/// A predictor's answer for many rows, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowsAnswer {
    /// One answer per row.
    pub predictions: Vec<RowAnswer>,
}

/// A predictor's response: one prediction for a request with `features`, a list for one with `instances`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PredictResponse {
    /// For `features`.
    Row(RowAnswer),
    /// For `instances`.
    Rows(RowsAnswer),
}

/// A predictor's answer for one row of a regression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowValue {
    /// The value.
    #[schema(example = 3.2)]
    pub prediction: f64,
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
    /// The value, for a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
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
