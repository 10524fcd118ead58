//! 5-fold cross-validation over 20 seeds, on the folds that scikit-learn made: the mean accuracy is within a point of
//! scikit-learn's.

use canopy_forest::train::parameters::RandomForest;

use crate::folds::{accuracy, mean};
use crate::golden::{self, SETS};

#[test]
fn the_mean_accuracy_over_20_seeds_is_within_a_point_of_scikit_learns() {
    let golden = golden::cross_validation();
    for set in SETS {
        let (samples, golden) = (golden::samples(set), &golden[set]);
        assert_eq!((golden.folds.len(), golden.accuracies.len()), (20, 20), "{set} has other seeds");
        let ours = mean(golden.folds.iter().enumerate().map(|(seed, folds)| {
            let parameters = RandomForest::params().seed(seed as u64);
            accuracy(&samples, folds, |known| parameters.train(known, &|_, _| {}))
        }));
        let theirs = mean(golden.accuracies.iter().copied());
        println!("{set}: {ours:.4}, scikit-learn {theirs:.4}");
        assert!((ours - theirs).abs() < 0.01, "{set}: {ours} is not within a point of {theirs}");
    }
}
