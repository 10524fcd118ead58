//! An error in a manifest, with the path of its field as Kubernetes writes it.

use std::fmt;

/// The maximum number of reported errors.
pub const FIELD_ERRORS_MAX: usize = 20;

/// The path of a field and its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `spec.features[2].min`.
    pub field: String,
    /// The error, and what to do.
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
