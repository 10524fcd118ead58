//! Preparation of a model: training, evaluation, and the files that `serve` reads.

pub mod schema_mapping;
pub mod labelled;
pub mod refusal;
pub mod evaluation;
pub mod import;
pub mod examples;
pub(crate) mod warnings;
pub mod record;
pub mod prepare;
pub mod kept;
