//! Writes of children: only what differs, and only objects that belong to the model.

pub mod ownership;
pub mod diff;
pub mod cluster;
pub mod restore;
pub mod children;
