//! As good as scikit-learn: 5-fold cross-validation over 20 seeds, on the very folds that scikit-learn made.
//!
//! Comes in: rows and folds. Goes out: a mean accuracy more than a point away from scikit-learn's. Never: a seed
//! that was chosen.

use canopy_forest::data::Samples;
use canopy_forest::layout::Packed;
use canopy_forest::scale::Scaler;
use canopy_forest::train::RandomForest;

use crate::golden::{self, SETS};

/// The number of rows of one fold that are predicted rightly by a forest that learned from the other folds.
fn right(samples: &Samples, folds: &[u8], fold: u8, seed: u64) -> f64 {
    let part = |is_test: bool| {
        let rows = (0..samples.len()).filter(|&row| (folds[row] == fold) == is_test);
        samples.select(&rows.collect::<Vec<_>>())
    };
    let (train, test) = (part(false), part(true));
    let forest = RandomForest::params().seed(seed).train(&train, &|_, _| {}).expect("a forest");
    let scaler = Scaler::identity(test.features().len());
    Packed::new(&forest).accuracy(&scaler, &test).expect("an accuracy")
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[test]
fn the_mean_accuracy_over_20_seeds_is_within_a_point_of_scikit_learns() {
    let golden = golden::cross_validation();
    for set in SETS {
        let (samples, golden) = (golden::samples(set), &golden[set]);
        assert_eq!(golden.folds.len(), 20, "{set} has other seeds");
        let start = std::time::Instant::now();
        let accuracies = golden.folds.iter().enumerate().map(|(seed, folds)| {
            let folds = folds.as_bytes();
            mean(
                [b'0', b'1', b'2', b'3', b'4']
                    .into_iter()
                    .map(|fold| right(&samples, folds, fold, seed as u64)),
            )
        });
        let (ours, theirs) = (mean(accuracies), mean(golden.accuracies.iter().copied()));
        println!("{set}: {ours:.5}, scikit-learn {theirs:.5} {:?}", start.elapsed());
        assert!((ours - theirs).abs() < 0.01, "{set}: {ours} is not within a point of {theirs}");
    }
}
