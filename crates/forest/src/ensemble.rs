//! Ensembles of decision trees: the one form that every trainer and reader produces, and the forests of our own trainers.

pub mod precision;
pub mod form;
pub(crate) mod evaluation;
pub mod forest;
