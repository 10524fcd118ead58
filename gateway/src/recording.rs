//! Answers are recorded in the database off the path of requests; feedback is compared with what was recorded.

pub(crate) mod feedback_recorder;
pub(crate) mod entry;
pub(crate) mod writer;
pub(crate) mod queue;
pub(crate) mod feedback;
