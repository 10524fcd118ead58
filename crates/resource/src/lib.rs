//! crates/resource
