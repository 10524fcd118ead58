//! Engines compute scores from numbers; a head turns the scores into answers.
//!
//! Only `crates/forest` and this folder know what a model consists of. Another kind of model is another file here, with
//! an entry in [`payload`].

pub mod interface;
pub mod head;
pub mod loaded;
pub mod trees;
pub mod linear;
pub mod network;
pub mod payload;
pub mod training;
