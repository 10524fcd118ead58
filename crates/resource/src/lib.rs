//! The `PredictorModel` resource: its types, its CRD, its defaults and its revision.
//!
//! Nothing here uses a cluster, a file or a clock.

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
