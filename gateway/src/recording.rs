//! Predictions are recorded in the database without delaying requests; feedback is compared with them.

pub(crate) mod feedback_recorder;
pub(crate) mod entry;
pub(crate) mod writer;
pub(crate) mod queue;
pub(crate) mod feedback;
