//! The quality that a model must have.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]
#![expect(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::source::Rule;

pub(crate) const GATE_HAS_ITS_BOUND: Rule = (
    "self.metric in ['Accuracy', 'R2'] ? has(self.min) && !has(self.max) : has(self.max) && !has(self.min)",
    "min must be given for Accuracy and R2, max for MeanAbsoluteError and RootMeanSquaredError, and not the other",
);
pub(crate) const GATE_IS_A_SHARE: Rule =
    ("!has(self.min) || (double(self.min) >= 0.0 && double(self.min) <= 1.0)", "min must be between 0 and 1");
pub(crate) const GATE_IS_NOT_NEGATIVE: Rule =
    ("!has(self.max) || double(self.max) >= 0.0", "max must be at least 0");

/// The quality that a model must have: one metric with a bound.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = GATE_HAS_ITS_BOUND,
    validation = GATE_IS_A_SHARE,
    validation = GATE_IS_NOT_NEGATIVE
)]
#[serde(rename_all = "camelCase")]
pub struct QualityGate {
    /// What is measured on rows that the model was not trained on.
    pub metric: Metric,
    /// The minimum, from 0 to 1, for Accuracy and R2: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub min: Option<Decimal>,
    /// The maximum, for MeanAbsoluteError and RootMeanSquaredError: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub max: Option<Decimal>,
}

/// A measure of quality.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// Of classes: the share of rows that are predicted correctly.
    Accuracy,
    /// Of values: the coefficient of determination.
    R2,
    /// Of values: the mean of the absolute errors.
    MeanAbsoluteError,
    /// Of values: the square root of the mean of the squared errors.
    RootMeanSquaredError,
}
