//! Where training data come from, and from which networks they may.

pub mod networks;
pub mod download;
