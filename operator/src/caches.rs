//! What the watches saw last, and what was read once.

pub mod trim;
pub mod undecodable;
pub mod stores;
pub mod contents;
