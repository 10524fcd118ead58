//! Training of random forests: by Canopy's own trainer, or by linfa.

pub mod parameters;
mod ordinal;
mod split_search;
mod tree;
pub mod forest;
pub mod linfa_backend;
