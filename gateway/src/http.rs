//! What every request passes: the limits of its body, then trace, count and log.

pub(crate) mod request_body;
pub(crate) mod query;
pub(crate) mod request_context;
