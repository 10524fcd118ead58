//! Canopy's operator: a `PredictorModel` becomes pods that serve it.
//!
//! Comes in: models, and the objects that were made for them. Goes out: objects, a status, a few Events. Never: a
//! decision from a memory that a restart would lose; every pass starts from what is there.

pub mod callers;
pub mod sizes;
pub mod settings;
pub mod metrics;
pub mod fence;
pub mod backoff;
pub mod spans;
pub mod reason;
pub mod labels;
pub mod retired;
pub mod trouble;
pub mod pod;
pub mod admitted;
pub mod frozen;
pub mod known;
pub mod plan;
pub mod observed;
pub mod rollout;
pub mod verdict;
pub mod progress;
pub mod renewal;
pub mod desired;
pub mod facts;
pub mod cause;
pub mod condition;
pub mod status;
pub mod marks;
pub mod announcement;
pub mod call;
pub mod claim;
pub mod compare;
pub mod unreadable;
pub mod stores;
pub mod contents;
pub mod cluster;
pub mod keep;
pub mod sources;
pub mod apply;
pub mod reconcile;
pub mod report_unreadable;
pub mod watch;
pub mod catalogue;
pub mod lease;
pub mod controller;

#[cfg(test)]
mod testing;
