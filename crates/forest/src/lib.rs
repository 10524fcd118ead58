//! crates/forest
