//! The interface of an engine: rows of numbers in, scores out. It knows nothing of names, classes or requests.

use std::time::Duration;

/// A model's computation. An engine is only read, so one serves all threads.
pub trait Engine: Send + Sync {
    /// How many numbers a row has; at least 1.
    fn inputs(&self) -> usize;

    /// How many scores a row gets; at least 1.
    fn outputs(&self) -> usize;

    /// About how long [`Engine::run`] takes for `rows` rows. It decides on which threads a request is answered.
    fn cost(&self, rows: usize) -> Duration;

    /// Fills `scores` with [`Engine::outputs`] scores for each row, in the order of the rows. The scores of a row do not
    /// depend on the other rows.
    fn run(&self, batch: Batch<'_>, scratch: &mut Scratch, scores: &mut [f64]) -> Result<(), EngineError>;
}

/// Preprocessed rows of the same length.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    values: &'a [f64],
    rows: usize,
}

impl<'a> Batch<'a> {
    /// The rows in `values`, each of `inputs` numbers.
    pub fn new(values: &'a [f64], inputs: usize) -> Result<Self, EngineError> {
        let rows = values.len() / inputs.max(1);
        if values.len() != rows * inputs {
            return Err(EngineError::Values { values: values.len(), inputs });
        }
        Ok(Self { values, rows })
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &'a [f64] {
        self.values
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Buffers that a thread keeps from one run to the next. Their contents mean nothing between runs.
#[derive(Debug, Default)]
pub struct Scratch {
    /// For rows as 32-bit floats.
    pub narrow: Vec<f32>,
}

/// Why an engine has no scores.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The numbers are not whole rows.
    #[error("{values} numbers are not rows of {inputs} inputs")]
    Values {
        /// How many numbers there are.
        values: usize,
        /// How many a row has.
        inputs: usize,
    },
    /// A number of a row is none that the model takes. The row is counted from the first row of the run.
    #[error("number {column} of row {row} {must}, but is {value}")]
    Input {
        /// The index of the row.
        row: usize,
        /// The index of the number in the row.
        column: usize,
        /// What it must be: "must be a whole number of 32 bits".
        must: &'static str,
        /// What it is.
        value: f64,
    },
    /// The computation failed.
    #[error("model failed: {0}")]
    Failed(String),
}
