//! Downloads of training data, and the networks that they may come from.

pub mod networks;
pub mod download;
