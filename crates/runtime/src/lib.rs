//! What every process has before it does anything of its own: logs, traces, metrics, an admin port, a drain.
//!
//! Comes in: flags and the environment. Goes out: the ground that the gateway and the predictor stand on.
//! Never: anything that only one of them needs.

pub mod budget;
pub mod readiness;
pub mod trace;
pub mod exemplars;
mod openmetrics;
mod own;
pub mod metrics;
mod accept;
pub mod levels;
mod sparing;
mod lines;
pub mod telemetry;
pub mod docs;
pub mod shutdown;
pub mod listen;
pub mod workers;
pub mod connections;
mod memory;
pub mod bodies;
mod activity;
pub mod written;
mod socket;
mod answering;
mod connection;
pub mod serve;
pub mod admin;
pub mod process;
