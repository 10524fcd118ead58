//! Limits on a file, and the reasons why a file is refused.

use std::time::Duration;

use thiserror::Error;

/// What a file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of the file.
    pub bytes: usize,
    /// The most nodes, attributes, tensors, names, inputs and outputs in all.
    pub messages: usize,
    /// The most operators that are left to run.
    pub nodes: usize,
    /// The most numbers in all tensors and attributes.
    pub numbers: usize,
    /// The most dimensions of a tensor.
    pub dimensions: usize,
    /// The most numbers that the operators may make in all for the first rows.
    pub made: usize,
    /// The most numbers of a row, and the most scores of a row.
    pub columns: usize,
    /// How long the preparation and the first runs may take.
    pub load: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            messages: 200_000,
            nodes: 20_000,
            numbers: 1 << 26,
            dimensions: 8,
            made: 1 << 25,
            columns: 10_000,
            load: Duration::from_secs(20),
        }
    }
}

/// Why a graph is refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GraphError {
    /// The bytes are not an ONNX file.
    #[error("{0}; the file is damaged or was not written by an exporter of ONNX")]
    Malformed(String),
    /// The file is valid, but the graph has something that this program does not run.
    #[error("{what} is not supported: {instead}")]
    Unsupported {
        /// What the graph has.
        what: String,
        /// What to do.
        instead: &'static str,
    },
    /// The file costs too much.
    #[error("{what} must be at most {max}, got {found}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// The operators make more than the limit allows.
    #[error(
        "the operators up to {operator} would make {made} numbers for the first rows; they may make {max} in all"
    )]
    TooLarge {
        /// The operator that was not run.
        operator: String,
        /// How many numbers the operators make up to this one, at most.
        made: u64,
        /// How many numbers they may make.
        max: usize,
    },
    /// Preparation or the first runs failed.
    #[error("the graph cannot be run: {0}")]
    Failed(String),
    /// A number of a row is none that the graph takes.
    #[error("number {column} of row {row} {must}, but is {value}")]
    Value {
        /// The index of the row.
        row: usize,
        /// The index of the number in the row.
        column: usize,
        /// What it must be: "must be a whole number of 32 bits".
        must: &'static str,
        /// What it is.
        value: f64,
    },
    /// Preparation and the first runs took too long. Their thread is still busy, so the process should end.
    #[error(
        "the graph was not ready to run after {} s: it is too large, or made to take for ever",
        .0.as_secs()
    )]
    TooSlow(Duration),
}

impl GraphError {
    /// The bytes are not an ONNX file.
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    /// The same, where the row is one of several parts and `rows` rows are before its part.
    pub(crate) fn in_row(self, rows: usize) -> Self {
        match self {
            Self::Value { row, column, must, value } => Self::Value { row: row + rows, column, must, value },
            Self::Malformed(_)
            | Self::Unsupported { .. }
            | Self::Limit { .. }
            | Self::TooLarge { .. }
            | Self::Failed(_)
            | Self::TooSlow(_) => self,
        }
    }

    /// Something that this program does not run, and what to do.
    pub(crate) fn unsupported(what: impl Into<String>, instead: &'static str) -> Self {
        Self::Unsupported { what: what.into(), instead }
    }

    /// Refuses a count beyond a limit.
    pub(crate) fn limit(what: &'static str, found: usize, max: usize) -> Result<(), Self> {
        if found > max { Err(Self::Limit { what, found, max }) } else { Ok(()) }
    }
}

/// The name of something in a file, short and printable.
pub(crate) fn shown(name: &str) -> String {
    let mut text: String = name.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(60).is_some() {
        text.push('…');
    }
    text
}

/// The reason of `rten` for an error, in at most 300 characters.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> GraphError {
    GraphError::Failed(error.to_string().chars().take(300).collect())
}

/// The message of a panic of `rten`.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked")
}
