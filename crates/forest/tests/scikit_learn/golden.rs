//! The golden files that scikit-learn made.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use canopy_forest::data::samples::Samples;
use serde::Deserialize;

/// The data sets.
pub(crate) const SETS: [&str; 4] = ["iris", "wine", "breast_cancer", "digits"];

/// Cross-validation of one data set, for each seed.
#[derive(Deserialize)]
pub(crate) struct CrossValidation {
    /// The mean accuracy over the folds.
    pub(crate) accuracies: Vec<f64>,
    /// The fold of each row, one digit per row.
    pub(crate) folds: Vec<String>,
}

/// A forest, and its answers for every other row, from the second on.
#[derive(Deserialize)]
pub(crate) struct GoldenForest {
    pub(crate) features: usize,
    pub(crate) classes: usize,
    pub(crate) trees: Vec<Vec<GoldenNode>>,
    pub(crate) labels: Vec<usize>,
    pub(crate) probabilities: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum GoldenNode {
    /// Feature, threshold, left, right.
    Split(u32, f64, u32, u32),
    /// The share of each class.
    Leaf { shares: Vec<f64> },
}

pub(crate) fn samples(set: &str) -> Samples {
    let bytes = read(&format!("{set}.csv"));
    Samples::from_csv(&bytes, "class").unwrap_or_else(|error| panic!("{set}.csv: {error}"))
}

pub(crate) fn cross_validation() -> BTreeMap<String, CrossValidation> {
    parse("cross_validation.json")
}

pub(crate) fn forest(set: &str) -> GoldenForest {
    parse(&format!("{set}.forest.json"))
}

/// For each pair of rows the class of each 32-bit float from one to the other.
pub(crate) fn thresholds() -> Vec<Vec<usize>> {
    parse("thresholds.json")
}

fn parse<T: for<'de> Deserialize<'de>>(file: &str) -> T {
    serde_json::from_slice(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/forest").join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
