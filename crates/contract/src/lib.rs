//! The types that two Canopy processes exchange: names, bodies, error codes, the serving config.
//!
//! Everything here is pure: no I/O, no clock, no randomness, nothing asynchronous.

pub mod names;
pub mod duration;
pub mod code;
pub mod problem;
pub mod rows;
pub mod fault;
pub mod malformed;
pub mod schema;
pub mod body;
pub mod predict;
pub mod describe;
pub mod serving;
pub mod report;
