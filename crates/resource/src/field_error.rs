//! What is wrong with a manifest, and where.
//!
//! Comes in: the findings of whoever looked. Goes out: lines for people. Never: a judgement.

use std::fmt;

/// How many faults of one document are told.
pub const FIELD_ERRORS_MAX: usize = 20;

/// One fault: the field as Kubernetes writes it, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `spec.features[2].min`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl FieldError {
    /// The error `message` of `field`.
    pub fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The field `name` of `parent`.
pub(crate) fn member(parent: &str, name: &str) -> String {
    match parent {
        "" => name.to_owned(),
        _ if name.contains('.') => format!("{parent}[{name}]"),
        _ => format!("{parent}.{name}"),
    }
}

/// The entry `index` of the list `parent`.
pub(crate) fn entry(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}
