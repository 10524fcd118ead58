//! Ensembles in layouts that answer rows fast. Each gives the scores of [`crate::ensemble`], bit by bit.

pub mod layout;
pub mod walk;
mod general;
pub mod engine;
