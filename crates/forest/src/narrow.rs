//! From the 64-bit values of a table to the 32-bit ones that trees compare, so that different values stay different.
//!
//! A tree uses only the order of the values of a feature, so a feature may be moved and scaled without any effect on the
//! tree. It has to be where 32 bits would make different values equal: times in seconds, or values beyond the range of
//! 32 bits. The mean and the standard deviation are of no use here: one value that stands for a missing one, such as
//! 9999999999, decides both. So a feature is left as it is where that keeps its values apart; otherwise it is scaled by a
//! power of two, or moved by its median before that. Where a few values far from the others, such as 1e300, would make
//! these equal, they are left out of the choice of the scale: they become the largest 32-bit float, as does every value
//! beyond it.

use crate::data::precision::{Merged, shown};
use crate::data::samples::Samples;
use crate::scale::{ScaleError, Scaler};

/// Features as trees compare them.
#[derive(Clone, Debug, PartialEq)]
pub struct Narrowed {
    /// What is done to each feature.
    pub scaler: Scaler,
    /// The features in which some different values become equal all the same.
    pub merged: Vec<Merged>,
}

impl Narrowed {
    /// The samples to train on: scaled, with values beyond the range of 32 bits at its end.
    pub fn transform(&self, samples: &Samples) -> Samples {
        let mut scaled = self.scaler.transform(samples);
        scaled.values.iter_mut().for_each(|value| *value = f64::from(saturated(*value)));
        scaled
    }
}

/// The nearest 32-bit float that is finite.
fn saturated(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

/// Decides for each feature of `samples` what is done to its values.
pub fn narrow(samples: &Samples) -> Result<Narrowed, ScaleError> {
    let (mut offsets, mut scales, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    let mut values = Vec::with_capacity(samples.len());
    for feature in 0..samples.features().len() {
        values.clear();
        values.extend(samples.rows().map(|row| row[feature] + 0.0));
        values.sort_unstable_by(f64::total_cmp);
        let (map, rows) = best(&values);
        offsets.push(map.offset);
        scales.push(map.scale);
        let largest = self::merged(&values, map).max_by_key(|run| run.len());
        if let Some([first, .., last]) = largest {
            let repeated = repeated_rows(&values, map);
            let example = [first, last].map(|value| shown(*value));
            merged.push(Merged { feature, rows, repeated, example });
        }
    }
    Ok(Narrowed { scaler: Scaler::new(offsets, scales)?, merged })
}

/// `(value - offset) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Map {
    offset: f64,
    scale: f64,
}

impl Map {
    /// Whether the value stays finite.
    fn is_within(self, value: f64) -> bool {
        (((value - self.offset) * self.scale) as f32).is_finite()
    }

    fn apply(self, value: f64) -> f32 {
        saturated((value - self.offset) * self.scale)
    }
}

/// The map that makes the fewest different values equal, the first of several; and how many rows it makes equal. The
/// maps that leave every value finite come before those that do not.
fn best(sorted: &[f64]) -> (Map, usize) {
    let identity = Map { offset: 0.0, scale: 1.0 };
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let central = TAILS.map(|tail| &sorted[sorted.len() / tail..sorted.len() - sorted.len() / tail]);
    let all = [0.0, median].map(|offset| Map { offset, scale: scale(sorted, offset) });
    let most = central
        .iter()
        .flat_map(|central| [0.0, median].map(|offset| Map { offset, scale: scale(central, offset) }));
    let is_within = |map: &Map| sorted.iter().all(|value| map.is_within(*value));
    let whole = [identity].into_iter().chain(all).filter(is_within);
    let mut best = (identity, usize::MAX);
    for map in whole.chain([identity]).chain(most) {
        if best.1 > 0 {
            let rows = merged(sorted, map).map(<[f64]>::len).sum();
            best = if rows < best.1 { (map, rows) } else { best };
        }
    }
    best
}

/// The shares of the values at either end that may be ignored when a scale is chosen: 1/100 and 1/10.
const TAILS: [usize; 2] = [100, 10];

/// The power of two that makes the largest value one of about 2^120. So all of the range of 32 bits is used for small
/// values, and values a hundred times as large, which requests may have, are still finite.
fn scale(sorted: &[f64], offset: f64) -> f64 {
    const LARGEST: i64 = 120;
    let ends = [sorted.first(), sorted.last()].into_iter().flatten();
    let largest = ends.map(|end| (end - offset).abs()).fold(0.0, f64::max);
    let exponent = i64::from((largest.to_bits() >> 52) as u16) - 1023;
    // A power of two is its exponent only; beyond these it would not be finite, or lose bits.
    let power = (LARGEST - exponent).clamp(-1022, 1023);
    f64::from_bits((power + 1023).unsigned_abs() << 52)
}

/// How many of these rows have a value that is equal to one of another row before.
fn repeated_rows(sorted: &[f64], map: Map) -> usize {
    let equal = |value: &f64, other: &f64| value >= other;
    let runs = merged(sorted, map).flat_map(|run| run.chunk_by(equal));
    runs.map(<[f64]>::len).filter(|&rows| rows > 1).sum()
}

/// The values that `map` makes equal to different ones, those that become equal together.
fn merged(sorted: &[f64], map: Map) -> impl Iterator<Item = &[f64]> {
    let runs = sorted.chunk_by(move |a, b| map.apply(*a) >= map.apply(*b));
    runs.filter(|run| run.first() < run.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::ClassNames;
    use proptest::prelude::*;

    fn samples(values: &[f64]) -> Samples {
        let targets = (0..values.len()).map(|row| row % 2).collect();
        Samples {
            features: vec!["a".into()],
            values: values.to_vec(),
            targets,
            classes: ClassNames::Unnamed(2),
            merged: vec![],
        }
    }

    /// What becomes of `values`, and how many rows are made equal.
    fn narrowed(values: &[f64]) -> (Vec<f32>, usize) {
        let narrowed = narrow(&samples(values)).unwrap();
        let found = narrowed.transform(&samples(values)).values().iter().map(|&value| value as f32).collect();
        (found, narrowed.merged.iter().map(|merged| merged.rows).sum())
    }

    #[track_caller]
    fn check_apart(values: &[f64]) {
        let (found, rows) = narrowed(values);
        assert_eq!(rows, 0, "{values:?} become {found:?}");
        assert!(found.iter().all(|value| value.is_finite()), "{values:?} become {found:?}");
        for (one, other) in (0..values.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
            assert_eq!(
                found[one].partial_cmp(&found[other]),
                values[one].partial_cmp(&values[other]),
                "{values:?} become {found:?}"
            );
        }
    }

    #[test]
    fn values_that_32_bits_keep_apart_are_left_as_they_are() {
        for values in [
            &[0.0, 1.0, 9_999_999_999.0][..],
            &[0.0, 1.0, -3.402_823_5e38],
            &[0.1, 0.2, -0.0, 0.0],
            &[1e-45, 0.0],
            &[5.0, 5.0],
            &[],
        ] {
            let Narrowed { scaler, merged } = narrow(&samples(values)).unwrap();
            assert_eq!((scaler, merged), (Scaler::identity(1), vec![]), "{values:?}");
        }
    }

    #[test]
    fn values_beyond_the_range_of_32_bits_stay_apart() {
        check_apart(&[1e-46, 2e-46, 3e-46]);
        check_apart(&[5e-324, 1e-323, 0.0]);
        check_apart(&[1e-50, 2e-50, 9_999_999_999.0]);
        check_apart(&[-1e155, 1e155, 3e154]);
        check_apart(&[f64::MAX, f64::MIN, 1e308, 0.0]);
        check_apart(&[1e39, 2e39, -1.0]);
    }

    #[test]
    fn large_values_close_to_each_other_stay_apart_beside_one_that_is_far() {
        let day = |seconds: f64| 1.7e9 + seconds;
        check_apart(&[day(0.0), day(1.0), day(2.0), day(86_400.0), 9_999_999_999.0, 0.0]);
        check_apart(&[1e15, 1e15 + 1.0, 1e15 + 2.0]);
    }

    #[test]
    fn a_value_far_from_all_others_does_not_make_these_equal() {
        let far = [1e300, f64::MAX, f64::MIN, -3.4e200, 9.9e37, f64::from(f32::MAX)];
        for sentinel in far {
            let times = (0..99).map(|row| 1.7e9 + f64::from(row));
            let shares = (0..99).map(|row| f64::from(row) / 99.0);
            let small = (0..90).map(|row| 1e-46 * f64::from(row + 1)).chain([1e-30; 9]);
            let parts: [Vec<f64>; 3] = [times.collect(), shares.collect(), small.collect()];
            for mut values in parts {
                values.extend([sentinel; 2]);
                assert_eq!(narrowed(&values).1, 0, "{sentinel} among {values:?}");
            }
        }
    }

    #[test]
    fn values_that_no_map_keeps_apart_are_counted() {
        let close = [1.0, 1.0 + 1e-12, 1.0, 1e6, 1e6 + 1e-9, 1e12, 1e12 + 1e-3];
        let (found, rows) = narrowed(&close);
        assert!((4..7).contains(&rows), "{rows} of {found:?}");
        let Narrowed { merged, .. } = narrow(&samples(&close)).unwrap();
        // Only 1 is there twice.
        let example = ["1", "1.000000000001"].map(str::to_owned);
        assert_eq!(merged, [Merged { feature: 0, rows, repeated: 2, example }]);
    }

    proptest! {
        #[test]
        fn the_order_of_values_stays_the_same(values in prop::collection::vec(any::<f64>(), 1..20)) {
            let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
            let (found, _) = narrowed(&values);
            prop_assert!(found.iter().all(|value| value.is_finite()));
            for (one, other) in (0..values.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
                prop_assert!(values[one] > values[other] || found[one] <= found[other]);
            }
        }
    }
}
