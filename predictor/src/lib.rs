//! Canopy's predictor: data become a model, and the model answers.
//!
//! A model that does not reproduce the answer recorded when it was prepared never becomes ready. A module uses only
//! what is declared above it.

pub mod baseline;
pub mod error;
pub mod engine;
pub mod metrics;
pub mod files;
pub mod artifact;
pub mod sources;
pub mod training;
pub mod serving;
pub mod settings;
pub mod commands;
