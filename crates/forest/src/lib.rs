//! Decision forests: training and inference, nothing else.
//!
//! Comes in: the bytes of a table, or numbers. Goes out: a trained forest, and its predictions. Never: input or
//! output, a clock, anything asynchronous, or chance that a seed does not decide.

mod random;
pub mod seen;
pub mod precision;
pub mod data;
pub mod cells;
pub mod labels;
mod table;
mod synthetic;
pub mod split;
pub mod scale;
pub mod narrow;
pub mod model;
pub mod train;
pub mod bagging;
pub mod layout;
pub mod predict;
