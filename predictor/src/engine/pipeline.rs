//! A model that can answer: rows are scaled, then walked through the forest.
//!
//! Comes in: a scaler and a forest, then rows. Goes out: a class and its probability per row. Never: an answer that depends
//! on the rows beside it.

use std::cell::RefCell;

use canopy_contract::predict::RowAnswer;
use canopy_contract::rows::Rows;
use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::compiled::walk::{PredictError, class_of};
use canopy_forest::ensemble::Forest;
use canopy_forest::scale::Scaler;

/// So many rows at a time: what lies between rows and answers stays small enough for a CPU's cache.
const BLOCK_ROWS: usize = 512;

thread_local! {
    /// Room for scaled values and probabilities, kept from request to request.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f64>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A model, ready for rows.
#[derive(Clone, Debug)]
pub struct Pipeline {
    scaler: Scaler,
    forest: CompiledForest,
    trees: usize,
}

impl Pipeline {
    /// Lays a model out to be walked fast.
    pub fn new(scaler: &Scaler, forest: &Forest) -> Self {
        Self { scaler: scaler.clone(), forest: CompiledForest::new(forest), trees: forest.trees().len() }
    }

    /// How many trees a row walks through.
    pub fn trees(&self) -> usize {
        self.trees
    }

    /// The most probable class of each row, and its probability. Every row must be as long as the model has
    /// features.
    pub fn predict(&self, rows: &Rows) -> Result<Vec<RowAnswer>, PredictError> {
        let mut answers = Vec::with_capacity(rows.len());
        self.for_each_row(rows, |probabilities| {
            let class = class_of(probabilities);
            answers.push(RowAnswer { prediction: class as u32, confidence: probabilities[class] });
        })?;
        Ok(answers)
    }

    /// The probability of every class, in the order of the card, for each row.
    pub fn probabilities(&self, rows: &Rows) -> Result<Vec<Vec<f64>>, PredictError> {
        let mut all = Vec::with_capacity(rows.len());
        self.for_each_row(rows, |probabilities| all.push(probabilities.to_vec()))?;
        Ok(all)
    }

    fn for_each_row(&self, rows: &Rows, mut then: impl FnMut(&[f64])) -> Result<(), PredictError> {
        let (features, classes) = (self.forest.features(), self.forest.classes());
        if rows.iter().any(|row| row.len() != features) {
            return Err(PredictError::Values { values: rows.values().len(), rows: rows.len(), features });
        }
        SCRATCH.with_borrow_mut(|(scaled, probabilities)| {
            for block in rows.values().chunks(BLOCK_ROWS * features) {
                self.scaler.apply(block, scaled);
                probabilities.clear();
                probabilities.resize(block.len() / features * classes, 0.0);
                if block.len() == features {
                    self.forest.predict_row(scaled, probabilities)?;
                } else {
                    self.forest.predict_rows(scaled, probabilities)?;
                }
                probabilities.chunks_exact(classes).for_each(&mut then);
            }
            Ok(())
        })
    }
}
