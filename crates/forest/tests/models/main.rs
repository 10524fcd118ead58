//! Model files of other libraries, read and answered as the library that wrote them answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod golden;
#[path = "../../../../fuzz/check.rs"]
mod check;
mod lightgbm;
mod xgboost;
mod skops;
mod mlflow;
mod hostile;
mod hostile_archives;
mod corpus;
