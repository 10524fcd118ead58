//! Scaling of features by an offset and a factor, and standardisation to mean 0 and variance 1.

use linfa::traits::Fit;
use linfa_preprocessing::linear_scaling::LinearScaler;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data::samples::Samples;
use crate::data::seen::Seen;

/// An offset and a scale for each feature: `(x - offset) * scale`, computed in 64 bits.
///
/// Deserialising checks it, so every `Scaler` can be used.
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

/// Why a scaler cannot be made.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ScaleError {
    /// The mean or the deviation of a feature is beyond the largest 64-bit float.
    #[error(
        "column {} cannot be standardised: its values are too large or too far apart",
        Seen::new(feature)
    )]
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
    /// There are no rows.
    #[error("scaler cannot be fitted: there are no rows")]
    NoRows,
}

impl Scaler {
    /// A scaler of known offsets and scales, one of each per feature.
    pub fn new(offsets: Vec<f64>, scales: Vec<f64>) -> Result<Self, ScaleError> {
        if offsets.is_empty() || offsets.len() != scales.len() {
            return Err(ScaleError::Lengths { offsets: offsets.len(), scales: scales.len() });
        }
        let finite =
            offsets.iter().zip(&scales).map(|(offset, scale)| offset.is_finite() && scale.is_finite());
        match finite.enumerate().find(|(_, finite)| !finite) {
            Some((feature, _)) => Err(ScaleError::NotFinite { feature }),
            None => Ok(Self { offsets, scales }),
        }
    }

    /// A scaler that leaves every value as it is.
    pub fn identity(features: usize) -> Self {
        Self { offsets: vec![0.0; features], scales: vec![1.0; features] }
    }

    /// Learns mean and population standard deviation of each feature, as linfa's `LinearScaler::standard` and
    /// scikit-learn's `StandardScaler` do; a constant feature keeps its scale.
    pub fn fit(samples: &Samples) -> Result<Self, ScaleError> {
        let dataset = samples.dataset();
        let learned = LinearScaler::standard().fit(&dataset).map_err(|_| ScaleError::NoRows)?;
        let offsets = learned.offsets().to_vec();
        let mut scales = learned.scales().to_vec();
        // The mean of equal values may be off by a bit, and the deviation is then a rounding error.
        for (column, scale) in dataset.records.columns().into_iter().zip(&mut scales) {
            if column.iter().all(|value| Some(value) == column.first()) {
                *scale = 1.0;
            }
        }
        // A deviation beyond the largest float has no inverse: the feature would silently become constant.
        if let Some(feature) = scales.iter().position(|&scale| scale == 0.0) {
            return Err(ScaleError::TooLarge { feature: samples.features()[feature].clone() });
        }
        Self::new(offsets, scales).map_err(|error| match error {
            ScaleError::NotFinite { feature } => {
                ScaleError::TooLarge { feature: samples.features()[feature].clone() }
            }
            other @ (ScaleError::TooLarge { .. } | ScaleError::Lengths { .. } | ScaleError::NoRows) => other,
        })
    }

    /// What is subtracted from each feature.
    pub fn offsets(&self) -> &[f64] {
        &self.offsets
    }

    /// What each feature is multiplied by after that.
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// The samples scaled, to train on.
    #[must_use]
    pub fn transform(&self, samples: &Samples) -> Samples {
        Samples { values: self.scaled(samples.values()).collect(), ..samples.clone() }
    }

    /// Whether it leaves every value as it is.
    pub fn is_identity(&self) -> bool {
        self.offsets.iter().all(|offset| *offset == 0.0)
            && self.scales.iter().all(|scale| scale.to_bits() == 1_f64.to_bits())
    }

    /// Replaces the contents of `scaled` by `values` scaled: one row or many, row after row.
    pub fn apply_to(&self, values: &[f64], scaled: &mut Vec<f64>) {
        scaled.clear();
        scaled.extend(self.scaled(values));
    }

    /// Replaces the contents of `scaled` by `values` scaled: one row or many, row after row. The work is done in
    /// 64 bits and rounded to 32 at the end, as training did.
    pub fn apply(&self, values: &[f64], scaled: &mut Vec<f32>) {
        scaled.clear();
        scaled.extend(self.scaled(values).map(|value| value as f32));
    }

    fn scaled<'a>(&'a self, values: &'a [f64]) -> impl Iterator<Item = f64> {
        values.chunks(self.offsets.len().max(1)).flat_map(|row| {
            row.iter()
                .zip(&self.offsets)
                .zip(&self.scales)
                .map(|((value, offset), scale)| (value - offset) * scale)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(columns: &[&str], rows: &[&str]) -> Samples {
        let header = columns.join(",");
        let rows: Vec<String> =
            rows.iter().enumerate().map(|(i, row)| format!("{row},{}\n", i % 2)).collect();
        Samples::from_csv(format!("{header},class\n{}", rows.concat()).as_bytes(), "class").unwrap()
    }

    #[test]
    fn a_feature_has_mean_0_and_variance_1_after_scaling() {
        let samples = samples(&["a", "b"], &["1,-100", "2,0", "3,100", "6,400"]);
        let scaler = Scaler::fit(&samples).unwrap();
        assert_eq!(scaler.offsets(), [3.0, 100.0]);
        assert!((scaler.scales()[0] - 3.5_f64.sqrt().recip()).abs() < 1e-15);
        let standard = scaler.transform(&samples);
        for feature in 0..2 {
            let column: Vec<f64> = standard.rows().map(|row| row[feature]).collect();
            let mean = |f: &dyn Fn(f64) -> f64| column.iter().map(|&x| f(x)).sum::<f64>() / 4.0;
            assert!(mean(&|x| x).abs() < 1e-15 && (mean(&|x| x * x) - 1.0).abs() < 1e-15, "{column:?}");
        }
    }

    #[test]
    fn a_constant_feature_keeps_its_scale() {
        // The sum of three times 0.1 is not three times 0.1, and 1e15 + 0.1 has few bits left.
        let samples = samples(&["a", "b"], &["0.1,1000000000000000.1"; 7]);
        assert_eq!(Scaler::fit(&samples).unwrap().scales(), [1.0, 1.0]);
    }

    #[test]
    fn a_feature_beyond_64_bits_is_refused_by_name() {
        let samples = samples(&["a", "b"], &["1,1e308", "2,1.5e308", "3,-1e308"]);
        assert_eq!(Scaler::fit(&samples), Err(ScaleError::TooLarge { feature: "b".into() }));
    }

    #[test]
    fn a_feature_whose_variance_is_beyond_64_bits_is_refused_and_not_made_constant() {
        let samples = samples_of_spread();
        assert_eq!(Scaler::fit(&samples), Err(ScaleError::TooLarge { feature: "a".into() }));
    }

    fn samples_of_spread() -> Samples {
        samples(&["a"], &["-1e200", "1e200", "-1e200", "1e200"])
    }

    #[test]
    fn only_a_scaler_that_can_be_used_is_deserialised() {
        for (json, expected) in [
            (r#"{"offsets":[1.0],"scales":[1.0,2.0]}"#, "scaler has 1 offsets and 2 scales"),
            (r#"{"offsets":[],"scales":[]}"#, "scaler has 0 offsets and 0 scales"),
        ] {
            let error = serde_json::from_str::<Scaler>(json).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = Scaler::new(vec![0.0, 0.0], vec![1.0, f64::NAN]).unwrap_err();
        assert_eq!(error, ScaleError::NotFinite { feature: 1 });
        let scaler = Scaler::new(vec![0.1, -3.0], vec![1.5, 1e-300]).unwrap();
        let text = serde_json::to_string(&scaler).unwrap();
        assert_eq!(serde_json::from_str::<Scaler>(&text).unwrap(), scaler);
    }

    proptest! {
        #[test]
        fn rows_are_scaled_alike_one_by_one_together_and_before_training(
            rows in prop::collection::vec(prop::array::uniform2(-1e6..1e6_f64), 2..20),
        ) {
            let text: Vec<String> = rows.iter().map(|[a, b]| format!("{a:e},{b:e}")).collect();
            let samples = samples(&["a", "b"], &text.iter().map(String::as_str).collect::<Vec<_>>());
            let scaler = Scaler::fit(&samples).unwrap();
            let (mut one, mut together) = (Vec::new(), Vec::new());
            scaler.apply(samples.values(), &mut together);
            let trained: Vec<f32> = scaler.transform(&samples).values().iter().map(|&x| x as f32).collect();
            prop_assert_eq!(&together, &trained);
            for (row, expected) in samples.rows().zip(together.chunks(2)) {
                scaler.apply(row, &mut one);
                prop_assert_eq!(&one[..], expected);
            }
        }

        #[test]
        fn the_identity_changes_nothing(values in prop::collection::vec(any::<f32>(), 6)) {
            let wide: Vec<f64> = values.iter().copied().map(f64::from).collect();
            let mut scaled = Vec::new();
            Scaler::identity(3).apply(&wide, &mut scaled);
            prop_assert_eq!(
                scaled.iter().map(|x| x + 0.0).map(f32::to_bits).collect::<Vec<_>>(),
                values.iter().map(|x| x + 0.0).map(f32::to_bits).collect::<Vec<_>>()
            );
        }
    }
}
