//! From the 64-bit values of a table to the 32-bit ones that trees compare, so that different values stay different.
//!
//! A tree sees only the order of the values of a feature. It may be moved and scaled without any effect on the tree,
//! and must be where 32 bits would make different values equal: times in seconds, or values beyond the range of 32
//! bits. Moving to the mean and scaling to the variance, as for linear models, is no help: one value that stands for a
//! missing one, such as 9999999999, decides both. So a feature is left as it is where that keeps its values apart;
//! else it is scaled by a power of two, or moved by its median before that.

use crate::data::Samples;
use crate::scale::{ScaleError, Scaler};

/// Features as trees compare them.
#[derive(Clone, Debug, PartialEq)]
pub struct Narrowed {
    /// What is done to each feature.
    pub scaler: Scaler,
    /// The features in which some different values become equal all the same.
    pub merged: Vec<Merged>,
}

/// A feature in which different values become equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The index of the feature.
    pub feature: usize,
    /// How many rows have a value that is equal to a different one after this.
    pub rows: usize,
    /// How many of these rows have a value that is equal to one of another row, too: so values are no measurements with
    /// many digits, of which two may be close by chance.
    pub repeated: usize,
}

/// Decides for each feature of `samples` what is done to its values.
pub fn narrow(samples: &Samples) -> Result<Narrowed, ScaleError> {
    let (mut offsets, mut scales, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    let mut values = Vec::with_capacity(samples.len());
    for feature in 0..samples.features().len() {
        values.clear();
        values.extend(samples.rows().map(|row| row[feature] + 0.0));
        values.sort_unstable_by(f64::total_cmp);
        let (Map { offset, scale }, rows) = best(&values);
        offsets.push(offset);
        scales.push(scale);
        if rows > 0 {
            let repeated = repeated_rows(&values, Map { offset, scale });
            merged.push(Merged { feature, rows, repeated });
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
    fn apply(self, value: f64) -> f32 {
        ((value - self.offset) * self.scale) as f32
    }
}

/// The map that makes the fewest different values equal, the first of several; and how many rows it makes equal.
fn best(sorted: &[f64]) -> (Map, usize) {
    let identity = Map { offset: 0.0, scale: 1.0 };
    let mut best = (identity, merged_rows(sorted, identity).unwrap_or(usize::MAX));
    if best.1 == 0 {
        return best;
    }
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    for offset in [0.0, median] {
        let map = Map { offset, scale: scale(sorted, offset) };
        if let Some(rows) = merged_rows(sorted, map).filter(|&rows| rows < best.1) {
            best = (map, rows);
        }
    }
    best
}

/// The power of two that makes the largest value one of about 2^120. So all of the range of 32 bits is used for small
/// values, and values a hundred times as large, which may be asked about later, are still finite.
fn scale(sorted: &[f64], offset: f64) -> f64 {
    const LARGEST: i64 = 120;
    let ends = [sorted.first(), sorted.last()].into_iter().flatten();
    let largest = ends.map(|end| (end - offset).abs()).fold(0.0, f64::max);
    let exponent = i64::from((largest.to_bits() >> 52) as u16) - 1023;
    // A power of two is its exponent only; beyond these it would not be finite, or lose bits.
    let power = (LARGEST - exponent).clamp(-1022, 1023);
    f64::from_bits((power + 1023).unsigned_abs() << 52)
}

/// How many rows have a value that `map` makes equal to a different one; none where it makes one infinite.
fn merged_rows(sorted: &[f64], map: Map) -> Option<usize> {
    let mut ends = [sorted.first(), sorted.last()].into_iter().flatten();
    ends.all(|end| map.apply(*end).is_finite()).then(|| merged(sorted, map).map(<[f64]>::len).sum())
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
    use crate::data::ClassNames;
    use proptest::prelude::*;

    fn samples(values: &[f64]) -> Samples {
        let targets = (0..values.len()).map(|row| row % 2).collect();
        Samples {
            features: vec!["a".into()],
            values: values.to_vec(),
            targets,
            classes: ClassNames::Unnamed(2),
        }
    }

    /// What becomes of `values`, and how many rows are made equal.
    fn narrowed(values: &[f64]) -> (Vec<f32>, usize) {
        let Narrowed { scaler, merged } = narrow(&samples(values)).unwrap();
        let mut found = Vec::new();
        scaler.apply(values, &mut found);
        (found, merged.iter().map(|merged| merged.rows).sum())
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
    fn what_no_map_keeps_apart_is_counted() {
        let close = [1.0, 1.0 + 1e-12, 1.0, 1e6, 1e6 + 1e-9, 1e12, 1e12 + 1e-3];
        let (found, rows) = narrowed(&close);
        assert!((4..7).contains(&rows), "{rows} of {found:?}");
        let Narrowed { merged, .. } = narrow(&samples(&close)).unwrap();
        // Only 1 is there twice.
        assert_eq!(merged, [Merged { feature: 0, rows, repeated: 2 }]);
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
