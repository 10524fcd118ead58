//! The `PredictorModel` resource: its types, and what follows from them without a cluster.
//!
//! Comes in: manifests. Goes out: the definition of the resource, and for each model the config that a predictor
//! reads, or why there is none. Never: a cluster, a file, a clock.

pub mod decimal;
pub mod placement;
pub mod status;
pub mod model;
pub mod definition;
pub mod field_error;
mod document;
mod schema;
mod rules;
pub mod manifest;
mod normal;
pub mod legacy;
pub mod revision;
mod binary;
pub mod resolve;
