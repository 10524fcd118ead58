//! One loaded model behind the routes: the bytes of a request become the bytes of an answer.
//!
//! Comes in: a request's body. Goes out: the answer's body, or a failure. Never: a wait for another request; and a
//! panic of the model ends the request, not the process.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use canopy_contract::body;
use canopy_contract::describe::ModelDescription;
use canopy_contract::predict::{PredictResponse, RowAnswer, RowsAnswer};
use canopy_contract::rows::Rows;
use canopy_contract::schema;
use canopy_runtime::trace::RequestSpan;

use crate::engine::pipeline::Pipeline;
use crate::error::Failure;
use crate::metrics::PredictionMetrics;

/// What answers rows. The engine knows nothing else of a model.
pub trait Model: Send + Sync {
    /// Answers each row, in their order. The rows have been checked against the model's features.
    fn predict(&self, rows: &Rows) -> Result<Vec<RowAnswer>, Box<dyn Error + Send + Sync>>;

    /// How many trees one row walks through.
    fn trees(&self) -> usize;
}

impl Model for Pipeline {
    fn predict(&self, rows: &Rows) -> Result<Vec<RowAnswer>, Box<dyn Error + Send + Sync>> {
        Ok(self.predict(rows)?)
    }

    fn trees(&self) -> usize {
        self.trees()
    }
}

/// A body longer than this is read and answered away from the workers that serve connections.
const LIGHT_BYTES: usize = 32 * 1024;
/// So is one with more rows times trees than this.
const LIGHT_WALKS: usize = 20_000;

/// A model, what is said of it, and what counts its predictions.
pub struct Engine {
    model: Box<dyn Model>,
    description: ModelDescription,
    metrics: PredictionMetrics,
}

/// An answer, and what a log line says of it.
#[derive(Debug)]
pub struct Answered {
    /// The body.
    pub json: Vec<u8>,
    /// How many values a row has.
    pub features: usize,
    /// How many rows were asked about.
    pub rows: usize,
    /// The prediction, where there is only one.
    pub only: Option<RowAnswer>,
}

impl Engine {
    /// An engine for `model`, which is what `description` says.
    pub fn new(model: Box<dyn Model>, description: ModelDescription, metrics: PredictionMetrics) -> Self {
        Self { model, description, metrics }
    }

    /// What is said of the model.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// Whether the work for this body may keep a worker from other connections for too long. Decided before
    /// anything is read: each row opens a bracket, so brackets bound the rows.
    pub fn is_heavy(&self, body: &[u8]) -> bool {
        let rows_at_most = || body.iter().map(|&byte| usize::from(byte == b'[')).sum::<usize>();
        body.len() > LIGHT_BYTES || rows_at_most() * self.model.trees() > LIGHT_WALKS
    }

    /// Answers a request.
    pub fn answer(&self, body: &[u8], span: &RequestSpan) -> Result<Answered, Failure> {
        let rows = body::parse(body)?;
        schema::check(&rows, &self.description.features).map_err(Failure::Values)?;
        let answers = self.predict(&rows, span)?;

        let (count, only) = (answers.len(), answers.first().copied().filter(|_| rows.is_single()));
        let response = match only {
            Some(answer) => PredictResponse::Row(answer),
            None => PredictResponse::Rows(RowsAnswer { predictions: answers }),
        };
        // A number between 0 and 1 and an index: 64 bytes hold one answer.
        let mut json = Vec::with_capacity(64 * count);
        serde_json::to_writer(&mut json, &response).map_err(|_| Failure::ModelFailed)?;
        Ok(Answered { json, features: self.description.features.len(), rows: count, only })
    }

    fn predict(&self, rows: &Rows, span: &RequestSpan) -> Result<Vec<RowAnswer>, Failure> {
        let ModelDescription { model, version, .. } = &self.description;
        let inference = span.inference();
        inference.model(model.as_str(), version, rows.len());
        let started = Instant::now();
        // The model is only read, so a panic cannot leave it half changed.
        let answers = catch_unwind(AssertUnwindSafe(|| self.model.predict(rows)));
        let answers = match answers.unwrap_or_else(|_| Err("it panicked".into())) {
            Ok(answers) => answers,
            Err(error) => {
                tracing::error!(trace_id = %span.context(), model = model.as_str(), version, %error, "model failed");
                let (_, code) = Failure::ModelFailed.ending();
                inference.finish(None, Some(code.as_str()));
                return Err(Failure::ModelFailed);
            }
        };
        self.metrics.predicted(rows, &answers, started, inference.context());
        Ok(answers)
    }
}
