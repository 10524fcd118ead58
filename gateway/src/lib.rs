//! Canopy's gateway: receives prediction requests, validates them, and forwards them to predictors.
//!
//! Modules are declared in the order of data flow: a module uses only those above it.

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
