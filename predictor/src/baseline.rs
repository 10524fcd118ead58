//! The distribution of the training rows, and how far live rows have moved from it.

pub mod reference;
pub mod drift;
