//! Predictions of a forest, of one row and of many: bit by bit the same.
//!
//! Comes in: scaled rows. Goes out: a probability per class. Never: an allocation, or a failure that the lengths
//! of the arguments do not explain.

use thiserror::Error;

use crate::data::Samples;
use crate::layout::Packed;
use crate::scale::Scaler;

/// Why there is no prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PredictError {
    /// The rows are not as long as the forest has features.
    #[error("{values} values are not {rows} rows of {features} features")]
    Values {
        /// How many values were given.
        values: usize,
        /// For how many rows there is room for an answer.
        rows: usize,
        /// How many values a row has.
        features: usize,
    },
    /// The room for answers is not a multiple of the number of classes.
    #[error("room for {room} probabilities is not room for answers of {classes} classes")]
    Room {
        /// How much room was given.
        room: usize,
        /// How many classes there are.
        classes: usize,
    },
}

impl Packed {
    /// Fills `probabilities`, one per class, with the answer for `row`, which a [`Scaler`] has scaled.
    pub fn predict_row(&self, row: &[f32], probabilities: &mut [f64]) -> Result<(), PredictError> {
        drop((row, probabilities));
        Err(PredictError::Room { room: 0, classes: self.classes() })
    }

    /// Fills `probabilities`, one per class, row after row, with the answers for `rows`, row after row.
    pub fn predict_rows(&self, rows: &[f32], probabilities: &mut [f64]) -> Result<(), PredictError> {
        drop((rows, probabilities));
        Err(PredictError::Room { room: 0, classes: self.classes() })
    }

    /// The share of `samples` whose class is predicted; 0 where there are none.
    pub fn accuracy(&self, scaler: &Scaler, samples: &Samples) -> Result<f64, PredictError> {
        drop((scaler, samples));
        Err(PredictError::Room { room: 0, classes: self.classes() })
    }
}

/// The index of the largest probability, the lowest where several are equal, as numpy's `argmax`.
pub fn class_of(probabilities: &[f64]) -> usize {
    probabilities.len()
}
