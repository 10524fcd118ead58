//! The model behind the routes: the body of a request becomes the body of an answer.
//!
//! A panic of the model ends the request, not the process.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use canopy_contract::body;
use canopy_contract::describe::ModelDescription;
use canopy_contract::rows::Rows;
use canopy_contract::schema;
use canopy_runtime::trace::RequestSpan;
use serde::Serialize;

use crate::engine::head::Answer;
use crate::engine::interface::EngineError;
use crate::engine::loaded::LoadedModel;
use crate::error::Failure;
use crate::metrics::PredictionMetrics;

/// Answers rows.
pub trait Model: Send + Sync {
    /// The answer for each row, in their order. The rows have been checked against the model's features.
    fn predict(&self, rows: &Rows) -> Result<Vec<Answer>, Box<dyn Error + Send + Sync>>;

    /// About how long it takes to predict `rows` rows.
    fn cost(&self, rows: usize) -> Duration;
}

impl Model for LoadedModel {
    fn predict(&self, rows: &Rows) -> Result<Vec<Answer>, Box<dyn Error + Send + Sync>> {
        Ok(self.predict(rows)?)
    }

    fn cost(&self, rows: usize) -> Duration {
        self.cost(rows)
    }
}

/// A longer body is read and answered away from the workers that serve connections.
const LIGHT_BYTES: usize = 32 * 1024;
/// So is one whose rows take longer than this.
const LIGHT_COST: Duration = Duration::from_millis(2);

/// The body of an answer to a request with `instances`.
#[derive(Serialize)]
struct Answers<'a> {
    predictions: &'a [Answer],
}

/// A model with its description and the metrics of its predictions.
pub struct ServedModel {
    model: Box<dyn Model>,
    description: ModelDescription,
    metrics: PredictionMetrics,
}

/// An answer, and what is logged about it.
#[derive(Debug)]
pub struct Answered {
    /// The body.
    pub json: Vec<u8>,
    /// How many values a row has.
    pub features: usize,
    /// How many rows the request had.
    pub rows: usize,
    /// The answer to a request with `features`.
    pub only: Option<Answer>,
}

impl ServedModel {
    /// Serves `model`.
    pub fn new(model: Box<dyn Model>, description: ModelDescription, metrics: PredictionMetrics) -> Self {
        Self { model, description, metrics }
    }

    /// The model's description.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// Whether the work for this body may keep a worker from other connections for too long. Decided before
    /// anything is read: each row opens a bracket, so brackets bound the rows.
    pub fn is_heavy(&self, body: &[u8]) -> bool {
        let rows_at_most = || body.iter().map(|&byte| usize::from(byte == b'[')).sum::<usize>();
        body.len() > LIGHT_BYTES || self.model.cost(rows_at_most()) > LIGHT_COST
    }

    /// Answers a request.
    pub fn answer(&self, body: &[u8], span: &RequestSpan) -> Result<Answered, Failure> {
        let rows = body::parse(body)?;
        schema::check(&rows, &self.description.features).map_err(Failure::Values)?;
        let answers = self.predict(&rows, span)?;

        let (count, only) = (answers.len(), answers.first().copied().filter(|_| rows.is_single()));
        // A number between 0 and 1 and an index: 64 bytes hold one answer.
        let mut json = Vec::with_capacity(64 * count);
        let written = match only {
            Some(answer) => serde_json::to_writer(&mut json, &answer),
            None => serde_json::to_writer(&mut json, &Answers { predictions: &answers }),
        };
        written.map_err(|_| Failure::ModelFailed)?;
        Ok(Answered { json, features: self.description.features.len(), rows: count, only })
    }

    /// The failure of the client where the model does not take a value.
    fn refused_value(&self, rows: &Rows, error: &(dyn Error + 'static)) -> Option<Failure> {
        let EngineError::Input { row, column, must, value } = error.downcast_ref()? else { return None };
        let problem = format!("{} {must}, but is {value}", self.description.features.get(*column)?.name);
        Some(if rows.is_single() {
            Failure::Value { member: "features", indices: vec![*column], problem }
        } else {
            Failure::Value { member: "instances", indices: vec![*row, *column], problem }
        })
    }

    fn predict(&self, rows: &Rows, span: &RequestSpan) -> Result<Vec<Answer>, Failure> {
        let ModelDescription { model, version, .. } = &self.description;
        let inference = span.inference();
        inference.model(model.as_str(), version, rows.len());
        let started = Instant::now();
        // The model is only read, so a panic cannot leave it half changed.
        let answers = catch_unwind(AssertUnwindSafe(|| self.model.predict(rows)));
        let answers = answers.unwrap_or_else(|_| Err("it panicked".into())).and_then(|answers| {
            // A missing value can reach a linear model; JSON has no number for what comes of it.
            let is_finite = answers.iter().all(|answer| answer.number().is_finite());
            if is_finite { Ok(answers) } else { Err("its answer is not a finite number".into()) }
        });
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                if let Some(failure) = self.refused_value(rows, &*error) {
                    let (_, code) = failure.ending();
                    inference.finish(None, Some(code.as_str()));
                    return Err(failure);
                }
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
