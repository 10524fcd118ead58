//! The parts that all processes share: logs, traces, metrics, HTTP servers, the admin port and shutdown.
//!
//! Nothing here is of use to one process only.

pub mod readiness;
pub mod shutdown;
pub mod negotiation;
pub mod trace;
pub mod metrics;
pub mod panics;
pub mod telemetry;
pub mod docs;
pub mod server;
pub mod admin;
pub mod process;
