//! Training data: CSV tables, samples, and the split into rows for training and evaluation.

pub mod seen;
pub mod precision;
pub mod samples;
pub mod error;
pub mod cells;
pub mod labels;
mod csv;
mod synthetic;
pub mod holdout;
