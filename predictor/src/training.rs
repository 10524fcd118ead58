//! `prepare`: data become an artifact, a report and a recorded answer.

pub mod schema_mapping;
pub mod refusal;
pub mod evaluation;
pub(crate) mod warnings;
pub mod record;
pub mod prepare;
pub mod kept;
