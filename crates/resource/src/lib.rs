//! The `PredictorModel` resource: its types, its CRD, its defaults and its revision.
//!
//! Nothing here uses a cluster, a file or a clock.

pub mod decimal;
pub mod placement;
pub mod status;
pub mod source;
pub mod quality;
pub mod feature;
pub mod imported;
pub mod model;
pub mod definition;
pub mod field_error;
mod document;
mod schema;
mod rules;
pub mod manifest;
mod normal;
pub mod digest;
mod binary;
pub mod files;
pub mod legacy;
pub mod revision;
mod convert;
pub mod resolve;
