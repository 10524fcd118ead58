//! Caches of watched objects, of models that cannot be decoded, and of the content of `ConfigMap`s.

pub mod trim;
pub mod undecodable;
pub mod stores;
pub mod contents;
