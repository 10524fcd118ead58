//! The forest beside scikit-learn's and linfa's, on four real data sets.
//!
//! Comes in: `tests/golden/forest`, which the script there made. Goes out: where answers differ by more than they
//! may. Never: an answer that this crate made.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why by panicking")]

mod golden;
mod folds;
mod cross_validation;
mod linfa;
mod nodes;
mod thresholds;
