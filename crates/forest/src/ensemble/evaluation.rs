//! What an ensemble computes, written as plainly as possible: the definition that the compiled layouts are tested against.

use crate::ensemble::form::{Combine, Ensemble, Node, RawEnsemble, Side, Tree};
use crate::ensemble::precision::Precision;

impl Ensemble {
    /// The scores of one row of [`Ensemble::inputs`] numbers. Slow; see [`crate::compiled`].
    ///
    /// # Panics
    /// If the row is shorter.
    pub fn evaluate(&self, row: &[f64]) -> Vec<f64> {
        let raw = self.raw();
        let mut scores = match &raw.combine {
            Combine::Mean => vec![0.0; raw.outputs],
            Combine::Sum { base } => base.clone(),
        };
        for tree in &raw.trees {
            for (score, value) in scores.iter_mut().zip(raw.leaf(raw.walk(tree, row))) {
                *score += value;
            }
        }
        if raw.combine == Combine::Mean {
            for score in &mut scores {
                *score /= raw.trees.len() as f64;
            }
        }
        scores
    }
}

impl RawEnsemble {
    /// The leaf in which the row ends.
    fn walk(&self, tree: &Tree, row: &[f64]) -> u32 {
        let mut index = 0;
        loop {
            let (side, left, right) = match tree[index as usize] {
                Node::Leaf { values } => return values,
                Node::Split { feature, threshold, left, right, missing } => {
                    let value = self.value(row, feature);
                    let side = if value <= threshold { Side::Left } else { Side::Right };
                    (if value.is_nan() { missing } else { side }, left, right)
                }
                Node::Category { feature, set, left, right, missing } => {
                    let value = self.value(row, feature);
                    let side =
                        if contains(&self.sets[set as usize], value) { Side::Left } else { Side::Right };
                    (if value.is_nan() { missing } else { side }, left, right)
                }
            };
            index = if side == Side::Left { left } else { right };
        }
    }

    fn value(&self, row: &[f64], feature: u32) -> f64 {
        let value = row[feature as usize];
        match self.precision {
            Precision::Single => f64::from(value as f32),
            Precision::Double => value,
        }
    }
}

/// Whether a set has the category that `value` is without its fraction.
pub(crate) fn contains(set: &[u64], value: f64) -> bool {
    // The cast cuts the fraction off, and gives the largest integer for values beyond the range.
    let category = usize::try_from(value as i64).ok().filter(|_| value >= 0.0);
    category
        .is_some_and(|category| set.get(category / 64).is_some_and(|word| word >> (category % 64) & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_categories_without_their_fraction() {
        let set = [1 << 3 | 1, 1 << 63];
        for (value, is_in) in [
            (0.0, true),
            (-0.0, true),
            (0.9, true),
            (-0.5, false),
            (1.0, false),
            (3.0, true),
            (3.999, true),
            (127.0, true),
            (128.0, false),
            (-3.0, false),
            (f64::MAX, false),
            (f64::INFINITY, false),
            (f64::NEG_INFINITY, false),
            (f64::NAN, false),
        ] {
            assert_eq!(contains(&set, value), is_in, "{value}");
        }
    }

    #[test]
    fn scores_are_the_mean_or_the_sum_from_a_base() {
        let leaf = |values| vec![Node::Leaf { values }];
        let raw = |combine| RawEnsemble {
            inputs: 1,
            outputs: 2,
            precision: Precision::Double,
            combine,
            leaves: vec![1.0, 2.0, 3.0, 6.0],
            sets: vec![],
            trees: vec![leaf(0), leaf(1)],
        };
        assert_eq!(Ensemble::new(raw(Combine::Mean)).unwrap().evaluate(&[0.0]), [2.0, 4.0]);
        let sum = Combine::Sum { base: vec![0.5, -1.0] };
        assert_eq!(Ensemble::new(raw(sum)).unwrap().evaluate(&[0.0]), [4.5, 7.0]);
    }

    #[test]
    fn single_precision_rounds_the_value_and_missing_values_have_a_side_of_their_own() {
        let goes_right = |precision, missing| {
            let split = Node::Split { feature: 0, threshold: 0.1, left: 1, right: 2, missing };
            let ensemble = Ensemble::new(RawEnsemble {
                inputs: 1,
                outputs: 1,
                precision,
                combine: Combine::Mean,
                leaves: vec![-1.0, 1.0],
                sets: vec![],
                trees: vec![vec![split, Node::Leaf { values: 0 }, Node::Leaf { values: 1 }]],
            });
            let ensemble = ensemble.unwrap();
            // As a 32-bit float, 0.1 is larger than the 64-bit 0.1.
            [0.1, f64::NAN, f64::INFINITY].map(|value| ensemble.evaluate(&[value])[0] > 0.0)
        };
        assert_eq!(goes_right(Precision::Double, Side::Left), [false, false, true]);
        assert_eq!(goes_right(Precision::Single, Side::Right), [true, true, true]);
    }
}
