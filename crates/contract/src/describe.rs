//! The body of `GET /model`, by which a predictor describes its model: names, bounds, classes, quality.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::names::ModelName;
use crate::schema::{Class, Feature};

/// What kind of answer a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Task {
    /// One of a closed list of classes.
    Classification,
    /// A number.
    Regression,
}

/// How good a model was on rows it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quality {
    /// The metric.
    pub metric: Metric,
    /// The value.
    #[schema(example = 0.96)]
    pub value: f64,
    /// On how many rows.
    #[schema(example = 200)]
    pub samples: usize,
}

/// A measure of quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Metric {
    /// The share of rows whose class was predicted.
    Accuracy,
    /// Of a regression: the coefficient of determination, 1 at best.
    R2,
    /// Of a regression: the mean of the absolute errors, 0 at best.
    MeanAbsoluteError,
    /// Of a regression: the square root of the mean of the squared errors, 0 at best.
    RootMeanSquaredError,
}

/// A predictor's `GET /model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDescription {
    /// The model's name.
    #[schema(value_type = String, example = "demo")]
    pub model: ModelName,
    /// The namespace it lives in.
    #[schema(example = "default")]
    pub namespace: String,
    /// Its version, as people label it.
    #[schema(example = "1.0")]
    pub version: String,
    /// Its revision: a digest of its spec and data.
    #[schema(example = "6f3a9c1e")]
    pub revision: String,
    /// What kind of answer it gives.
    pub task: Task,
    /// The features in order.
    pub features: Vec<Feature>,
    /// The classes in order: the class with index 0 first.
    pub classes: Vec<Class>,
    /// The names of the values in order, for a regression with several outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// How good it was on rows it was not trained on; absent if it was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// The SHA-256 of its artifact, in hexadecimal.
    pub digest: String,
}
