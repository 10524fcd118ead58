//! Why a model file cannot be read, and the limits within which one is read.

use std::fmt;

use thiserror::Error;

use crate::ensemble::form::EnsembleError;
use crate::read::format::Format;

/// What a model file may cost. A file beyond a limit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of the file.
    pub bytes: usize,
    /// The most trees.
    pub trees: usize,
    /// The most nodes of all trees.
    pub nodes: usize,
    /// The most numbers in all leaves or coefficients: each leaf has one per output.
    pub numbers: usize,
    /// The most levels of nesting, where a format nests.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 20, trees: 100_000, nodes: 1 << 23, numbers: 1 << 25, depth: 64 }
    }
}

impl Limits {
    /// Refuses a count beyond a limit.
    pub fn check(what: &'static str, found: usize, max: usize) -> Result<(), Problem> {
        if found > max { Err(Problem::Limit { what, found, max }) } else { Ok(()) }
    }
}

/// Why a file cannot be read: the format, the place in the file, and the problem there.
#[derive(Clone, Debug, PartialEq, Error)]
pub struct ReadError {
    /// The format of the file.
    pub format: Format,
    /// Where in the file, such as `tree 3`; empty for the file as a whole.
    pub place: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Problem {
    /// The bytes do not follow the format.
    #[error("{0}; the file is damaged or was not written by this library")]
    Malformed(String),
    /// The file is valid, but its model has something that this program does not support.
    #[error("{what} is not supported: {instead}")]
    Unsupported {
        /// What the model has.
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
    /// The trees do not make an ensemble.
    #[error("its trees are not usable: {0}")]
    Ensemble(#[from] EnsembleError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} file", self.format)?;
        if !self.place.is_empty() {
            write!(f, ", {}", self.place)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Problem {
    /// The bytes do not follow the format.
    pub fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    /// Something that this program does not support, and what to do.
    pub fn unsupported(what: impl Into<String>, instead: &'static str) -> Self {
        Self::Unsupported { what: what.into(), instead }
    }

    /// Adds the format and the place.
    #[must_use]
    pub fn at(self, format: Format, place: impl Into<String>) -> ReadError {
        ReadError { format, place: place.into(), problem: self }
    }
}
