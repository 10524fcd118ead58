//! Canopy's operator: a `PredictorModel` becomes pods that serve it.
//!
//! Every reconciliation starts from what the cluster has; no decision depends on memory that a restart would lose.
//! A module uses only what is declared above it.

pub mod settings;
pub mod metrics;
pub mod backoff;
pub mod tracing_spans;
pub mod reason;
pub mod labels;
pub mod api;
pub mod pod;
pub mod revision;
pub mod spec;
pub mod state;
pub mod rollout;
pub mod children;
pub mod external_changes;
pub mod status;
pub mod caches;
pub mod apply;
pub mod spec_resolver;
pub mod reconcile;
pub mod controller;

#[cfg(test)]
mod testing;
