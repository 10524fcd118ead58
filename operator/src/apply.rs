//! Writes to the API server: only what differs, and only what the model owns.

pub mod ownership;
pub mod diff;
pub mod cluster;
pub mod restore;
pub mod children;
