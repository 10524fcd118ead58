//! What every request passes: body limits, query parameters, tracing, metrics and logging.

pub(crate) mod request_body;
pub(crate) mod query;
pub(crate) mod request_context;
