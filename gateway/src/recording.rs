//! Answers are recorded in the database off the path of requests; feedback is compared with what was recorded.

pub(crate) mod tally;
pub(crate) mod entry;
pub(crate) mod writer;
pub(crate) mod queue;
pub(crate) mod feedback;
