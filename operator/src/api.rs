//! Calls to the API server: timeouts, and the fence that stops writes without the Lease.

pub mod fence;
pub mod call;
pub mod scope;
