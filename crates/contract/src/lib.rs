//! What two Canopy processes agree on, and nothing else.
//!
//! Comes in: bytes and text that one process wrote. Goes out: types that cannot be wrong, or an error that
//! names the field. Never: input or output, a clock, randomness, or anything asynchronous.

pub mod names;
pub mod duration;
pub mod code;
pub mod problem;
pub mod rows;
pub mod fault;
pub mod malformed;
pub mod body;
pub mod schema;
pub mod predict;
pub mod describe;
pub mod serving;
pub mod report;
