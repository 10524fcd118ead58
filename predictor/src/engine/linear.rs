//! Weighted sums as an engine.

use std::time::Duration;

use canopy_forest::read::model::Linear;

use crate::engine::interface::{Batch, Engine, EngineError, Scratch};

/// About how long a multiplication takes.
const PRODUCT: Duration = Duration::from_nanos(1);

/// A linear model whose numbers are checked.
#[derive(Clone, Debug)]
pub struct LinearEngine(Linear);

impl LinearEngine {
    /// The engine of a valid model.
    pub fn new(linear: Linear) -> Self {
        Self(linear)
    }
}

impl Engine for LinearEngine {
    fn inputs(&self) -> usize {
        self.0.weights.first().map_or(0, Vec::len)
    }

    fn outputs(&self) -> usize {
        self.0.weights.len()
    }

    fn cost(&self, rows: usize) -> Duration {
        let products = (self.inputs() * self.outputs()).saturating_mul(rows);
        PRODUCT.saturating_mul(u32::try_from(products).unwrap_or(u32::MAX))
    }

    fn run(&self, batch: Batch<'_>, _: &mut Scratch, scores: &mut [f64]) -> Result<(), EngineError> {
        let rows = batch.values().chunks_exact(self.inputs());
        for (row, scores) in rows.zip(scores.chunks_exact_mut(self.outputs())) {
            scores.iter_mut().zip(self.0.scores(row)).for_each(|(score, sum)| *score = sum);
        }
        Ok(())
    }
}
