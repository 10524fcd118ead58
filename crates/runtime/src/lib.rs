//! What every process has before it does anything of its own: logs, traces, metrics, servers, an admin port.
//!
//! Nothing here is of use to one process only.

pub mod readiness;
pub mod shutdown;
pub mod negotiation;
pub mod trace;
pub mod metrics;
pub mod telemetry;
pub mod docs;
pub mod server;
pub mod admin;
pub mod process;
