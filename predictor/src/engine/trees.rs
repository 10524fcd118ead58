//! Ensembles of decision trees as an engine.

use std::time::Duration;

use canopy_forest::compiled::engine::CompiledEnsemble;
use canopy_forest::compiled::walk::PredictError;
use canopy_forest::ensemble::form::Ensemble;

use crate::engine::interface::{Batch, Engine, EngineError, Scratch};

/// About how long a row takes in one tree.
const WALK: Duration = Duration::from_nanos(100);

/// An ensemble that computes the combined leaves of its trees.
#[derive(Clone, Debug)]
pub struct TreeEngine {
    ensemble: CompiledEnsemble,
    trees: u32,
}

impl TreeEngine {
    /// Compiles an ensemble.
    pub fn new(ensemble: &Ensemble) -> Self {
        Self { ensemble: CompiledEnsemble::new(ensemble), trees: ensemble.raw().trees.len() as u32 }
    }
}

impl Engine for TreeEngine {
    fn inputs(&self) -> usize {
        self.ensemble.inputs()
    }

    fn outputs(&self) -> usize {
        self.ensemble.outputs()
    }

    fn cost(&self, rows: usize) -> Duration {
        WALK.saturating_mul(self.trees).saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX))
    }

    fn run(&self, batch: Batch<'_>, scratch: &mut Scratch, scores: &mut [f64]) -> Result<(), EngineError> {
        Ok(self.ensemble.run(batch.values(), &mut scratch.narrow, scores)?)
    }
}

impl From<PredictError> for EngineError {
    fn from(error: PredictError) -> Self {
        Self::Failed(error.to_string())
    }
}
