//! A loaded model: rows become answers.

pub mod pipeline;
pub mod model;
