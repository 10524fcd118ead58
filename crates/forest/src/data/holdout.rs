//! Splits samples into rows for training and rows for evaluation, stratified by class.

use crate::data::error::DataError;
use crate::data::samples::Samples;
use crate::rng::{Purpose, SeededRng};

/// Samples in two parts. Each row is in exactly one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainTest {
    /// The rows to train on, with rows of every class.
    pub train: Samples,
    /// The rows held out for evaluation.
    pub test: Samples,
}

impl Samples {
    /// Holds `test_percent` of the rows out, at random, each class in proportion (stratified).
    ///
    /// As with scikit-learn's `train_test_split(stratify=…)` the test part has `ceil(rows * test_percent / 100)`
    /// rows, but fewer if a class would otherwise keep no row for training. Unlike scikit-learn, every class with two
    /// rows or more has at least one row held out, so that it is evaluated. `test_percent` must be less than 100.
    pub fn split(&self, test_percent: u32, seed: u64) -> Result<TrainTest, DataError> {
        let unsplittable = DataError::Unsplittable { rows: self.len(), test_percent };
        if test_percent >= 100 {
            return Err(unsplittable);
        }
        let by_class = self.rows_by_class();
        let sizes: Vec<usize> = by_class.iter().map(Vec::len).collect();
        let mut random = SeededRng::new(seed, Purpose::Split);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for (mut rows, held_out) in by_class.into_iter().zip(held_out(&sizes, test_percent)) {
            random.shuffle(&mut rows);
            let (for_test, for_train) = rows.split_at(held_out);
            test.extend_from_slice(for_test);
            train.extend_from_slice(for_train);
        }
        if train.is_empty() || test.is_empty() {
            let alone = test_percent > 0 && !self.is_empty();
            return Err(if alone { DataError::OneRowEach { rows: self.len() } } else { unsplittable });
        }
        train.sort_unstable();
        test.sort_unstable();
        Ok(TrainTest { train: self.select(&train), test: self.select(&test) })
    }

    fn rows_by_class(&self) -> Vec<Vec<usize>> {
        let mut by_class = vec![Vec::new(); self.classes().len()];
        for (row, &class) in self.targets().iter().enumerate() {
            by_class[class].push(row);
        }
        by_class
    }
}

/// How many rows of each class are held out (largest remainder method): its share rounded down, then one more for the
/// classes with the largest remainders. Each class that would have none then gets one from the class with the most.
fn held_out(sizes: &[usize], test_percent: u32) -> Vec<usize> {
    let percent = test_percent as usize;
    let wanted = (sizes.iter().sum::<usize>() * percent).div_ceil(100);
    let mut counts: Vec<usize> = sizes.iter().map(|size| size * percent / 100).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&class| std::cmp::Reverse(sizes[class] * percent % 100));
    let missing = wanted - counts.iter().sum::<usize>();
    order.iter().take(missing).for_each(|&class| counts[class] += 1);
    let mut counts: Vec<usize> =
        counts.iter().zip(sizes).map(|(&count, size)| count.min(size.saturating_sub(1))).collect();
    for (class, &size) in sizes.iter().enumerate() {
        if wanted > 0 && counts[class] == 0 && size > 1 {
            if let Some(most) = counts.iter_mut().max().filter(|most| **most > 1) {
                *most -= 1;
            }
            counts[class] = 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::ClassNames;
    use proptest::prelude::*;

    fn samples(sizes: &[usize]) -> Samples {
        let targets: Vec<usize> =
            sizes.iter().enumerate().flat_map(|(class, &size)| vec![class; size]).collect();
        Samples {
            features: vec!["row".into()],
            values: (0..targets.len()).map(|row| row as f64).collect(),
            targets,
            classes: ClassNames::Unnamed(sizes.len()),
            merged: vec![],
        }
    }

    #[test]
    fn each_class_is_held_out_in_proportion() {
        for (sizes, percent, expected) in [
            (vec![50, 50, 50], 20, vec![10, 10, 10]),
            (vec![59, 71, 48], 20, vec![12, 14, 10]),
            (vec![212, 357], 25, vec![53, 90]),
            (vec![1, 99], 20, vec![0, 20]),
            (vec![2, 2], 50, vec![1, 1]),
            (vec![3, 4], 90, vec![2, 3]),
            (vec![2, 98], 20, vec![1, 19]),
            (vec![1, 3, 996], 20, vec![0, 1, 199]),
            (vec![2, 2, 2], 1, vec![1, 1, 1]),
            (vec![50, 50], 0, vec![0, 0]),
        ] {
            assert_eq!(held_out(&sizes, percent), expected, "{sizes:?} {percent}");
        }
    }

    #[test]
    fn a_seed_decides_which_rows_are_held_out() {
        let all = samples(&[20, 30]);
        let split = |seed| all.split(20, seed).unwrap();
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }

    #[test]
    fn a_split_with_an_empty_part_is_refused() {
        let alone = samples(&[1; 100]).split(20, 1).unwrap_err();
        assert_eq!(alone, DataError::OneRowEach { rows: 100 });
        for (sizes, percent) in [(vec![1, 1], 0), (vec![50, 50], 0), (vec![50, 50], 100)] {
            let rows = sizes.iter().sum();
            let expected = DataError::Unsplittable { rows, test_percent: percent };
            assert_eq!(samples(&sizes).split(percent, 1), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_part_and_every_class_keeps_a_row_for_training(
            sizes in prop::collection::vec(1..40_usize, 2..5), percent in 0..120_u32, seed in any::<u64>(),
        ) {
            let all = samples(&sizes);
            if let Ok(TrainTest { train, test }) = all.split(percent, seed) {
                let mut rows = [train.values(), test.values()].concat();
                rows.sort_unstable_by(f64::total_cmp);
                prop_assert_eq!(&rows[..], all.values());
                prop_assert!((0..sizes.len()).all(|class| train.targets().contains(&class)));
                for (row, class) in train.rows().zip(train.targets()) {
                    prop_assert!(all.rows().zip(all.targets()).any(|whole| whole == (row, class)));
                }
            }
        }
    }
}
