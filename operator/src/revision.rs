//! A revision: its name, its snapshot, and when it stopped serving.

pub mod retirement;
pub mod snapshot;
pub mod names;
