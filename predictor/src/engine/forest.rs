//! Decision forests as an engine.

use std::time::Duration;

use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::compiled::walk::PredictError;
use canopy_forest::ensemble::Forest;

use crate::engine::interface::{Batch, Engine, EngineError, Scratch};

/// About how long a row takes in one tree.
const WALK: Duration = Duration::from_nanos(100);

/// A forest that computes one probability per class.
#[derive(Clone, Debug)]
pub struct ForestEngine {
    forest: CompiledForest,
    trees: u32,
}

impl ForestEngine {
    /// Compiles a forest.
    pub fn new(forest: &Forest) -> Self {
        Self { forest: CompiledForest::new(forest), trees: forest.trees().len() as u32 }
    }
}

impl Engine for ForestEngine {
    fn inputs(&self) -> usize {
        self.forest.features()
    }

    fn outputs(&self) -> usize {
        self.forest.classes()
    }

    fn cost(&self, rows: usize) -> Duration {
        WALK.saturating_mul(self.trees).saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX))
    }

    fn run(&self, batch: Batch<'_>, scratch: &mut Scratch, scores: &mut [f64]) -> Result<(), EngineError> {
        // Trees compare 32-bit floats, as scikit-learn's do.
        scratch.narrow.clear();
        scratch.narrow.extend(batch.values().iter().map(|&value| value as f32));
        match batch.rows() {
            1 => self.forest.predict_row(&scratch.narrow, scores)?,
            _ => self.forest.predict_rows(&scratch.narrow, scores)?,
        }
        Ok(())
    }
}

impl From<PredictError> for EngineError {
    fn from(error: PredictError) -> Self {
        Self::Failed(error.to_string())
    }
}
