//! The precision in which values are compared with thresholds, and thresholds that compare alike in another library.

use serde::{Deserialize, Serialize};

/// In which precision values are compared with thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// Values are cast to 32 bits first, as in scikit-learn's forests and `XGBoost`.
    Single,
    /// As they are, as in `LightGBM` and scikit-learn's `HistGradientBoosting`.
    Double,
}

impl Precision {
    /// The largest number of this precision that is at most `threshold`: the same values are at most either.
    #[must_use]
    pub fn at_most(self, threshold: f64) -> f64 {
        match self {
            Self::Double => threshold,
            Self::Single => {
                let nearest = threshold as f32;
                f64::from(if f64::from(nearest) > threshold { nearest.next_down() } else { nearest })
            }
        }
    }

    /// The largest number of this precision below `threshold`: `value < threshold` is `value <= below(threshold)`.
    #[must_use]
    pub fn below(self, threshold: f64) -> f64 {
        match self {
            Self::Double => threshold.next_down(),
            Self::Single => {
                let nearest = threshold as f32;
                f64::from(if f64::from(nearest) < threshold { nearest } else { nearest.next_down() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_normalised_threshold_separates_the_same_values(threshold in -1e6..1e6_f64, value in -1e6..1e6_f64) {
            let single = (threshold as f32, f64::from(threshold as f32));
            let near = [value, threshold, threshold.next_up(), threshold.next_down(), single.1];
            let near = near.into_iter().chain([single.0.next_up(), single.0.next_down()].map(f64::from));
            for value in near {
                let precision = Precision::Double;
                prop_assert_eq!(value < threshold, value <= precision.below(threshold));
                prop_assert_eq!(value <= threshold, value <= precision.at_most(threshold));
                let (value, precision) = (f64::from(value as f32), Precision::Single);
                prop_assert_eq!(value < threshold, value <= precision.below(threshold));
                prop_assert_eq!(value <= threshold, value <= precision.at_most(threshold));
            }
        }
    }
}
