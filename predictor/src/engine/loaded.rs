//! A loaded model: rows are preprocessed, an engine computes scores, a head turns them into answers.
//!
//! The answer for a row does not depend on the rows beside it.

use std::cell::RefCell;
use std::time::Duration;

use canopy_contract::rows::Rows;
use canopy_forest::read::preprocessing::{Preprocessing, Room};
use canopy_forest::scale::Scaler;

use crate::engine::head::{Answer, Head};
use crate::engine::interface::{Batch, Engine, EngineError, Scratch};

/// Rows are computed in blocks of this size, so that the buffers between the steps stay in a CPU's cache.
const BLOCK_ROWS: usize = 512;

#[derive(Debug, Default)]
struct Buffers {
    scaled: Vec<f64>,
    changed: Vec<f64>,
    room: Room,
    scores: Vec<f64>,
    outputs: Vec<f64>,
    scratch: Scratch,
}

thread_local! {
    /// Kept from request to request.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::default());
}

/// A model that can answer rows.
pub struct LoadedModel {
    /// Absent where it would change nothing.
    scaler: Option<Scaler>,
    preprocessing: Option<Preprocessing>,
    engine: Box<dyn Engine>,
    head: Head,
}

impl LoadedModel {
    /// A model of parts that fit each other: each takes rows as long as the part before it gives them, and the head takes
    /// the engine's scores.
    pub fn new(
        scaler: &Scaler,
        preprocessing: Option<&Preprocessing>,
        engine: Box<dyn Engine>,
        head: Head,
    ) -> Self {
        let scaler = Some(scaler.clone()).filter(|scaler| !scaler.is_identity());
        Self { scaler, preprocessing: preprocessing.cloned(), engine, head }
    }

    /// About how long it takes to predict `rows` rows.
    pub fn cost(&self, rows: usize) -> Duration {
        self.engine.cost(rows)
    }

    /// The answer for each row. Every row must be as long as the model has inputs.
    pub fn predict(&self, rows: &Rows) -> Result<Vec<Answer>, EngineError> {
        let mut answers = Vec::with_capacity(rows.len());
        self.for_each_row(rows, |scores, room| answers.push(self.head.answer(scores, room)))?;
        Ok(answers)
    }

    /// The same with the probabilities of all classes, row after row.
    pub fn predict_probabilities(&self, rows: &Rows) -> Result<(Vec<Answer>, Vec<f64>), EngineError> {
        let mut answers = Vec::with_capacity(rows.len());
        let mut probabilities = Vec::new();
        self.for_each_row(rows, |scores, room| {
            answers.push(self.head.answer(scores, room));
            self.head.outputs(scores, room);
            probabilities.extend_from_slice(room);
        })?;
        Ok((answers, probabilities))
    }

    /// For each row, the probability of every class in the order of the classes, or the values.
    pub fn outputs(&self, rows: &Rows) -> Result<Vec<Vec<f64>>, EngineError> {
        let mut all = Vec::with_capacity(rows.len());
        self.for_each_row(rows, |scores, room| {
            self.head.outputs(scores, room);
            all.push(room.clone());
        })?;
        Ok(all)
    }

    /// An error of a block of rows, with the row counted from the first of all rows.
    fn place(&self, error: EngineError, before: usize) -> EngineError {
        match error {
            // The numbers of the engine are not those of the client.
            EngineError::Input { .. } if self.preprocessing.is_some() || self.scaler.is_some() => {
                EngineError::Failed(error.to_string())
            }
            EngineError::Input { row, column, must, value } => {
                EngineError::Input { row: row + before, column, must, value }
            }
            EngineError::Values { .. } | EngineError::Failed(_) => error,
        }
    }

    fn for_each_row(
        &self,
        rows: &Rows,
        mut then: impl FnMut(&[f64], &mut Vec<f64>),
    ) -> Result<(), EngineError> {
        let (width, outputs) = (self.engine.inputs(), self.engine.outputs());
        let inputs = self.preprocessing.as_ref().map_or(width, Preprocessing::inputs);
        if rows.iter().any(|row| row.len() != inputs) {
            return Err(EngineError::Values { values: rows.values().len(), inputs });
        }
        BUFFERS.with_borrow_mut(|Buffers { scaled, changed, room, scores, outputs: made, scratch }| {
            let mut done = 0;
            for block in rows.values().chunks(BLOCK_ROWS * inputs) {
                let mut values = block;
                if let Some(scaler) = &self.scaler {
                    scaler.apply_to(values, scaled);
                    values = scaled;
                }
                if let Some(preprocessing) = &self.preprocessing {
                    preprocessing.apply(values, room, changed);
                    values = changed;
                }
                scores.clear();
                scores.resize(block.len() / inputs * outputs, 0.0);
                let run = self.engine.run(Batch::new(values, width)?, scratch, scores);
                run.map_err(|error| self.place(error, done))?;
                done += block.len() / inputs;
                scores.chunks_exact(outputs).for_each(|scores| then(scores, made));
            }
            Ok(())
        })
    }
}
