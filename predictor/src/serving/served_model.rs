//! The model behind the routes: the body of a request becomes the body of an answer.
//!
//! A panic of the model ends the request, not the process.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use canopy_contract::body;
use canopy_contract::describe::{ModelDescription, Task};
use canopy_contract::fault::{FEATURES, Fault, FieldFault, INSTANCES, OUTPUTS_MAX, PROBABILITIES};
use canopy_contract::rows::Rows;
use canopy_runtime::trace::RequestSpan;
use serde::Serialize;

use crate::engine::head::Answer;
use crate::engine::interface::EngineError;
use crate::engine::loaded::LoadedModel;
use crate::error::Failure;
use crate::metrics::PredictionMetrics;

/// The answer for each row, and the probabilities of all classes, row after row, where they were requested.
pub type Predicted = (Vec<Answer>, Vec<f64>);

/// Answers rows.
pub trait Model: Send + Sync {
    /// The answer for each row, in their order. The rows have been checked against the model's features.
    fn predict(&self, rows: &Rows) -> Result<Vec<Answer>, Box<dyn Error + Send + Sync>>;

    /// The same with the probabilities of all classes, row after row.
    fn predict_probabilities(&self, rows: &Rows) -> Result<Predicted, Box<dyn Error + Send + Sync>>;

    /// About how long it takes to predict `rows` rows.
    fn cost(&self, rows: usize) -> Duration;
}

impl Model for LoadedModel {
    fn predict(&self, rows: &Rows) -> Result<Vec<Answer>, Box<dyn Error + Send + Sync>> {
        Ok(self.predict(rows)?)
    }

    fn predict_probabilities(&self, rows: &Rows) -> Result<Predicted, Box<dyn Error + Send + Sync>> {
        Ok(self.predict_probabilities(rows)?)
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
struct Answers<T> {
    predictions: T,
}

/// An answer with the probability of each class.
#[derive(Serialize)]
struct WithProbabilities<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    probabilities: &'a [f64],
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
    /// anything is read: each row opens a bracket or a brace, and the body opens one, so they bound the rows.
    pub fn is_heavy(&self, body: &[u8]) -> bool {
        let opened = || body.iter().map(|&byte| usize::from(byte == b'[' || byte == b'{')).sum::<usize>();
        let rows_at_most = || opened().saturating_sub(1);
        body.len() > LIGHT_BYTES || self.model.cost(rows_at_most()) > LIGHT_COST
    }

    /// Answers a request.
    pub fn answer(&self, body: &[u8], span: &RequestSpan) -> Result<Answered, Failure> {
        let body = body::parse(body)?;
        let wants = body.probabilities;
        let outputs = if wants { self.description.classes.len() } else { self.description.outputs.len() };
        let rows = body.into_rows(&self.description.features).map_err(Failure::faults)?;
        if wants && self.description.task != Task::Classification {
            return Err(Failure::faults(vec![FieldFault::at(PROBABILITIES, &[], Fault::NoClasses)]));
        }
        if rows.len().saturating_mul(outputs) > OUTPUTS_MAX {
            let member = if rows.is_single() { FEATURES } else { INSTANCES };
            let fault = Fault::TooManyOutputs { rows: rows.len(), outputs };
            return Err(Failure::faults(vec![FieldFault::at(member, &[], fault)]));
        }
        let (answers, probabilities) = self.predict(&rows, wants, span)?;

        let count = answers.len();
        // A number between 0 and 1 and an index: 64 bytes hold one answer, and 24 another number.
        let mut json = Vec::with_capacity((64 + 24 * outputs) * count);
        let written = match &*answers {
            _ if wants => {
                let of_rows = probabilities.chunks_exact(outputs.max(1));
                let mut all = answers
                    .iter()
                    .zip(of_rows)
                    .map(|(answer, probabilities)| WithProbabilities { answer, probabilities });
                match all.next() {
                    Some(only) if rows.is_single() => serde_json::to_writer(&mut json, &only),
                    first => {
                        let predictions: Vec<_> = first.into_iter().chain(all).collect();
                        serde_json::to_writer(&mut json, &Answers { predictions })
                    }
                }
            }
            [only] if rows.is_single() => serde_json::to_writer(&mut json, only),
            predictions => serde_json::to_writer(&mut json, &Answers { predictions }),
        };
        written.map_err(|_| Failure::ModelFailed)?;
        let only = answers.into_iter().next().filter(|_| rows.is_single());
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

    fn predict(&self, rows: &Rows, probabilities: bool, span: &RequestSpan) -> Result<Predicted, Failure> {
        let ModelDescription { model, version, .. } = &self.description;
        let inference = span.inference();
        inference.model(model.as_str(), version, rows.len());
        let started = Instant::now();
        // The model is only read, so a panic cannot leave it half changed.
        let predicted = catch_unwind(AssertUnwindSafe(|| {
            if probabilities {
                self.model.predict_probabilities(rows)
            } else {
                self.model.predict(rows).map(|answers| (answers, Vec::new()))
            }
        }));
        let predicted = match predicted.unwrap_or_else(|_| Err("it panicked".into())) {
            Ok(predicted) => match not_finite(rows, &predicted) {
                None => predicted,
                Some(failure) => {
                    let (_, code) = failure.ending();
                    inference.finish(None, Some(code.as_str()));
                    return Err(failure);
                }
            },
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
        self.metrics.predicted(rows, &predicted.0, started, inference.context());
        Ok(predicted)
    }
}

/// The failure of the client where the answer of a row is infinite or not a number, for which JSON has no number. The model gave
/// finite answers when it was prepared.
fn not_finite(rows: &Rows, (answers, probabilities): &Predicted) -> Option<Failure> {
    let width = probabilities.len() / answers.len().max(1);
    let row = answers.iter().enumerate().position(|(index, answer)| {
        let probabilities = &probabilities[index * width..(index + 1) * width];
        !answer.is_finite() || probabilities.iter().any(|probability| !probability.is_finite())
    })?;
    let problem =
        "gets no finite number from the model: send values nearer to those of its training".to_owned();
    Some(if rows.is_single() {
        Failure::Value { member: "features", indices: Vec::new(), problem }
    } else {
        Failure::Value { member: "instances", indices: vec![row], problem }
    })
}
