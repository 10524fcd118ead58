//! Canopy's gateway: a request becomes a prediction.
//!
//! The modules are declared in the order of data: a module uses only what is declared above it.

pub mod settings;
mod error;
mod versions;
mod metrics;
mod revision;
mod upstream;
mod balance;
mod model;
mod discovery;
mod forward;
mod store;
mod recording;
pub mod app;
mod http;
pub mod routes;
pub mod serve;
