//! Training data: tables, samples, and the rows that are held out of them.

pub mod seen;
pub mod precision;
pub mod samples;
pub mod error;
pub mod cells;
pub mod labels;
mod csv;
mod synthetic;
pub mod holdout;
