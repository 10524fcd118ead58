//! Training data as ranks: one integer per cell, which sorts as the cell's value does, so that no floats are compared
//! while trees grow.

/// The bits of a key that hold the class; the rank of the value is above them.
const CLASS_BITS: u32 = 8;

/// The training data of a forest.
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) classes: usize,
    pub(crate) rows: usize,
}

/// One feature.
pub(crate) struct Column {
    /// For each row the rank of its value among the different values, and below it the class of the row.
    pub(crate) keys: Vec<u32>,
    /// The different values in ascending order.
    values: Vec<f32>,
}

impl Column {
    /// A column of at most 2^24 finite `values`, each of a row with one of at most 256 `classes`.
    pub(crate) fn new(values: &[f32], classes: &[u8]) -> Self {
        // Adding 0 makes -0, which is equal to 0 but sorts before it, the same value.
        let mut different: Vec<f32> = values.iter().map(|value| value + 0.0).collect();
        different.sort_unstable_by(f32::total_cmp);
        different.dedup();
        let rank = |value: f32| different.partition_point(|&other| other < value) as u32;
        let keys = values
            .iter()
            .zip(classes)
            .map(|(&value, &class)| rank(value) << CLASS_BITS | u32::from(class))
            .collect();
        Self { keys, values: different }
    }

    /// The largest 32-bit float that goes left where the rank `lower` is to go left and the next one that
    /// occurs, `upper`, right. As in scikit-learn the middle of their values in 64 bits decides, so this is that
    /// middle, rounded down: a 32-bit value is at most the one where it is at most the other.
    pub(crate) fn threshold(&self, lower: u32, upper: u32) -> f32 {
        let (lower, upper) = (self.values[lower as usize], self.values[upper as usize]);
        let middle = f64::midpoint(f64::from(lower), f64::from(upper));
        let nearest = middle as f32;
        if f64::from(nearest) > middle { nearest.next_down() } else { nearest }
    }
}

/// The rank in a key.
pub(crate) fn rank(key: u32) -> u32 {
    key >> CLASS_BITS
}

/// The class in a key.
pub(crate) fn class(key: u32) -> usize {
    (key & ((1 << CLASS_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_values_have_equal_ranks_and_keys_have_the_class() {
        let column = Column::new(&[3.0, -1.0, 0.0, 3.0, -0.0], &[255, 0, 1, 2, 3]);
        assert_eq!(column.keys.iter().map(|&key| rank(key)).collect::<Vec<_>>(), [2, 0, 1, 2, 1]);
        assert_eq!(column.keys.iter().map(|&key| class(key)).collect::<Vec<_>>(), [255, 0, 1, 2, 3]);
    }

    #[test]
    fn a_threshold_is_the_middle_even_of_the_largest_numbers() {
        let column = Column::new(&[1.0, 2.0, -f32::MAX, f32::MAX, 3e38], &[0; 5]);
        assert_eq!(
            [column.threshold(1, 2), column.threshold(0, 4)].map(f32::to_bits),
            [1.5_f32, 0.0].map(f32::to_bits)
        );
        assert!(column.threshold(3, 4).is_finite());
    }

    #[test]
    fn a_row_on_the_nearest_32_bit_float_above_the_middle_goes_right() {
        // Three steps above 1: the middle is one and a half steps above, and the nearest even float is two.
        let steps = |count: u32| f32::from_bits(1.0_f32.to_bits() + count);
        let threshold = Column::new(&[steps(0), steps(3)], &[0, 0]).threshold(0, 1);
        assert_eq!(threshold.to_bits(), steps(1).to_bits());
    }

    proptest! {
        #[test]
        fn a_threshold_separates_its_two_values(a in any::<f32>(), steps in 1..3_u32) {
            let b = (0..steps).fold(a, |b, _| b.next_up());
            prop_assume!(a.is_finite() && b.is_finite() && a < b);
            let threshold = Column::new(&[a, b], &[0, 0]).threshold(0, 1);
            prop_assert!(a <= threshold && threshold < b);
        }

        #[test]
        fn a_value_goes_where_the_middle_in_64_bits_sends_it(a in -1e6..1e6_f32, steps in 1..9_u32, on in 0..9_u32) {
            let up = |steps: u32| (0..steps).fold(a, |value, _| value.next_up());
            let (b, value) = (up(steps), up(on));
            let threshold = Column::new(&[a, b], &[0, 0]).threshold(0, 1);
            let middle = f64::midpoint(f64::from(a), f64::from(b));
            prop_assert_eq!(value <= threshold, f64::from(value) <= middle, "{} {}", value, threshold);
        }
    }
}
