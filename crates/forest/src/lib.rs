//! Decision forests: training, inference, and readers of other libraries' models.
//!
//! There is no input or output here, no clock and nothing asynchronous. All randomness is derived from a seed.

mod rng;
pub mod data;
pub mod scale;
pub mod narrow;
pub mod ensemble;
pub mod compiled;
pub mod read;
pub mod train;
