//! Training through the public interface: by samples, and by linfa's traits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Mutex;

use canopy_forest::data::samples::Samples;
use canopy_forest::ensemble::forest::Forest;
use canopy_forest::train::parameters::{MaxFeatures, RandomForest, RandomForestParams, TrainError};
use linfa::traits::{Fit, Predict};
use linfa::{Dataset, ParamGuard};
use ndarray::{Array1, Array2, array};

fn small() -> RandomForestParams {
    RandomForest::params().trees(10)
}

fn fit(records: Array2<f64>, targets: Array1<usize>) -> Result<Forest, TrainError> {
    small().fit(&Dataset::new(records, targets))
}

#[track_caller]
fn check_refused(records: Array2<f64>, targets: Array1<usize>, expected: &str) {
    assert_eq!(fit(records, targets).unwrap_err().to_string(), expected);
}

#[test]
fn linfas_traits_train_and_predict() {
    let samples = Samples::synthetic(400, 4, 1).unwrap();
    let dataset = samples.dataset();
    let forest = small().fit(&dataset).unwrap();
    let predicted: Array1<usize> = forest.predict(&dataset.records);
    let right = predicted.iter().zip(samples.targets()).filter(|(a, b)| a == b).count();
    assert!(right > 390, "{right} of 400");
    assert_eq!(forest, small().train(&samples, &|_, _| {}).unwrap());
}

#[test]
fn a_seed_decides_the_forest_on_any_number_of_threads() {
    let samples = Samples::synthetic(300, 5, 9).unwrap();
    let bytes = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let forest = pool.install(|| small().trees(23).seed(seed).train(&samples, &|_, _| {})).unwrap();
        serde_json::to_vec(&forest).unwrap()
    };
    let one = bytes(1, 42);
    for threads in [1, 2, 7] {
        assert!(bytes(threads, 42) == one, "{threads} threads made another forest");
    }
    assert!(bytes(1, 43) != one);
}

#[test]
fn progress_is_reported_after_each_tree() {
    let told = Mutex::new(Vec::new());
    let samples = Samples::synthetic(50, 2, 1).unwrap();
    small().train(&samples, &|done, total| told.lock().unwrap().push((done, total))).unwrap();
    let mut told = told.into_inner().unwrap();
    told.sort_unstable();
    assert_eq!(told, (1..=10).map(|done| (done, 10)).collect::<Vec<_>>());
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    let samples = Samples::synthetic(50, 2, 1).unwrap();
    for (parameters, expected) in [
        (small().trees(0), "trees must be from 1 to 10000, but is 0"),
        (small().trees(10_001), "trees must be from 1 to 10000, but is 10001"),
        (small().max_depth(Some(0)), "max_depth must be at least 1, or left out, but is 0"),
        (small().min_samples_leaf(0), "min_samples_leaf must be at least 1, but is 0"),
    ] {
        assert_eq!(parameters.train(&samples, &|_, _| {}).unwrap_err().to_string(), expected);
        assert_eq!(parameters.check().unwrap_err().to_string(), expected);
    }
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    check_refused(Array2::zeros((0, 2)), array![], "training data has no rows");
    check_refused(Array2::zeros((2, 0)), array![0, 1], "training data has no features");
    check_refused(array![[1.0], [2.0]], array![1, 1], "training data has one class, but needs at least two");
    check_refused(array![[1.0], [2.0]], array![0, 256], "training data has 257 classes, more than 256");
    check_refused(
        array![[1.0], [2.0]],
        array![0, usize::MAX],
        &format!("training data has {} classes, more than 256", usize::MAX),
    );
    let weighted = Dataset::new(array![[1.0], [2.0]], array![0, 1]).with_weights(array![1.0, 2.0]);
    let error = small().fit(&weighted).unwrap_err().to_string();
    assert_eq!(error, "training data has weights, which this forest does not take: leave them out");
    let mut uneven = Dataset::new(array![[1.0], [2.0]], array![0, 1]);
    uneven.targets = array![0, 1, 1];
    assert!(matches!(small().fit(&uneven), Err(TrainError::Linfa(linfa::Error::MismatchedShapes(2, 3)))));
}

#[test]
fn a_value_that_is_not_finite_in_32_bits_is_refused_with_its_row_and_column() {
    for value in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY, 1e39] {
        let dataset = Dataset::new(array![[1.0, 2.0], [2.0, value]], array![0, 1]);
        let expected = "must be a finite 32-bit number: standardise, or scale the column";
        let error = small().fit(&dataset).unwrap_err().to_string();
        assert_eq!(error, format!("row 2 column \"1\" {expected}"));
        let error = small().fit(&dataset.with_feature_names(vec!["a", "b"])).unwrap_err().to_string();
        assert_eq!(error, format!("row 2 column \"b\" {expected}"));
    }
}

#[test]
fn without_bootstrap_and_with_all_features_a_forest_predicts_its_training_rows() {
    let samples = Samples::synthetic(200, 3, 4).unwrap();
    let parameters = small().bootstrap(false).max_features(MaxFeatures::All);
    let forest = parameters.train(&samples, &|_, _| {}).unwrap();
    let predicted: Array1<usize> = forest.predict(&samples.dataset().records);
    assert_eq!(predicted.to_vec(), samples.targets());
}

#[test]
fn each_tree_of_a_bootstrap_is_trained_on_other_rows() {
    let samples = Samples::synthetic(200, 2, 4).unwrap();
    let parameters = small().max_features(MaxFeatures::All).max_depth(Some(1));
    let different = |parameters: RandomForestParams| {
        let forest = parameters.train(&samples, &|_, _| {}).unwrap();
        let mut thresholds: Vec<String> =
            forest.trees().iter().map(|tree| format!("{:?}", tree[0])).collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        thresholds.len()
    };
    assert!(different(parameters) > 3);
    assert_eq!(different(parameters.bootstrap(false)), 1);
}
