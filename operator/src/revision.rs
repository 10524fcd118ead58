//! Revisions: their names, their snapshots, and when they stopped serving.

pub mod retirement;
pub mod snapshot;
pub mod names;
