//! The predictor: data becomes a model, and a model answers.
//!
//! Comes in: a serving config, then requests. Goes out: an artifact with its proof, then predictions. Never: an
//! answer of a model that has not reproduced what it answered when it was prepared.

pub mod reference;
pub mod drift;
pub mod failure;
pub mod metrics;
pub mod files;
pub mod pipeline;
pub mod artifact;
pub mod networks;
pub mod download;
pub mod arrangement;
pub mod refused;
pub mod holdout;
mod warnings;
pub mod record;
pub mod prepare;
pub mod kept;
pub mod turns;
pub mod engine;
pub mod app;
pub mod routes;
pub mod proof;
pub mod serve;
pub mod settings;
pub mod commands;
