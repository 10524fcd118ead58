//! Connections to predictors and the messages on them.

pub(crate) mod pool;
pub(crate) mod message;
pub(crate) mod describe;
