//! Connections to predictors, and the requests and responses on them.

pub(crate) mod pool;
pub(crate) mod message;
pub(crate) mod outgoing_rows;
pub(crate) mod describe;
