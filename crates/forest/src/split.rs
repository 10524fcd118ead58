//! The rows to learn from and the rows to be judged by.
//!
//! Comes in: samples, a share and a seed. Goes out: two parts with the classes in equal shares. Never: a row in
//! both parts.

use crate::data::{DataError, Samples};

/// Samples in two parts; each row is in one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// To learn from: it has rows of every class.
    pub train: Samples,
    /// To be judged by.
    pub test: Samples,
}

impl Samples {
    /// Holds `test_percent` of the rows out, at random, each class in proportion (stratified).
    ///
    /// As scikit-learn's `train_test_split(stratify=…)` the test part has `ceil(rows * test_percent / 100)`
    /// rows, as far as each class keeps one row to learn from.
    pub fn split(&self, test_percent: u32, seed: u64) -> Result<Split, DataError> {
        drop(seed);
        Err(DataError::Unsplittable { rows: self.len(), test_percent })
    }
}
