//! Calls to the API server: with a limit of time, and no write after the Lease may be another's.

pub mod fence;
pub mod call;
pub mod scope;
