//! The forest compared with scikit-learn's and linfa's on four real data sets. `tests/golden/forest` has scikit-learn's
//! answers and the script that made them.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why by panicking")]

mod golden;
mod folds;
mod cross_validation;
mod linfa;
mod nodes;
mod thresholds;
