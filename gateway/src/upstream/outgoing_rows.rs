//! The rows of a request as predictors get them: validated for a revision, and encoded once. Rows with names become numbers in the
//! order of the features of that revision.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use canopy_contract::body::{Body, BodyRows};
use canopy_contract::describe::Task;
use canopy_contract::fault::{FEATURES, Fault, FieldFault, INSTANCES, OUTPUTS_MAX, PROBABILITIES};
use canopy_contract::rows::Rows;
use canopy_contract::schema;

use crate::error::ApiError;
use crate::revision::Revision;
use crate::upstream::message;

/// The rows of a request.
pub(crate) struct OutgoingRows<'a> {
    body: &'a Body,
    /// Rows with names, as numbers for the features of a revision.
    named: OnceLock<(Arc<Revision>, Rows)>,
    /// Rows of numbers as JSON, encoded after validation: invalid rows take no memory for it.
    sent: OnceLock<Bytes>,
}

impl<'a> OutgoingRows<'a> {
    /// The rows of `body`.
    pub(crate) fn new(body: &'a Body) -> Self {
        Self { body, named: OnceLock::new(), sent: OnceLock::new() }
    }

    /// The rows as numbers, validated for `revision`. During a rollout, revisions may differ in their features.
    fn rows(&self, revision: &Arc<Revision>) -> Result<Cow<'_, Rows>, ApiError> {
        let features = &revision.description.features;
        let named = match &self.body.rows {
            BodyRows::Numbers(rows) => {
                return schema::resolve(rows, features).map_err(ApiError::InvalidFeatures);
            }
            BodyRows::Named(named) => named,
        };
        if self.named.get().is_none() {
            let rows = named.resolve(features).map_err(ApiError::InvalidFeatures)?;
            self.named.get_or_init(|| (revision.clone(), rows));
        }
        match self.named.get() {
            Some((known, rows)) if known.description.features == *features => Ok(Cow::Borrowed(rows)),
            _ => Ok(Cow::Owned(named.resolve(features).map_err(ApiError::InvalidFeatures)?)),
        }
    }

    /// Whether the predictors of two revisions get the same numbers.
    pub(crate) fn has_same_numbers(&self, one: &Revision, other: &Revision) -> bool {
        let is_named = matches!(self.body.rows, BodyRows::Named(_));
        !is_named || one.description.features == other.description.features
    }

    /// Checks the request against the model of `revision`.
    pub(crate) fn check(&self, revision: &Arc<Revision>) -> Result<(), ApiError> {
        self.rows(revision)?;
        let fault = match revision.outputs(self.body.probabilities) {
            _ if self.body.probabilities && revision.description.task != Task::Classification => {
                FieldFault::at(PROBABILITIES, &[], Fault::NoClasses)
            }
            outputs if self.body.len().saturating_mul(outputs) > OUTPUTS_MAX => {
                let member = if self.body.is_single() { FEATURES } else { INSTANCES };
                FieldFault::at(member, &[], Fault::TooManyOutputs { rows: self.body.len(), outputs })
            }
            _ => return Ok(()),
        };
        Err(ApiError::InvalidFeatures(vec![fault]))
    }

    /// The body for a predictor of `revision`.
    pub(crate) fn encode(&self, revision: &Arc<Revision>) -> Result<Bytes, ApiError> {
        let encode = |rows: &Rows| {
            message::encode_request(rows, self.body.probabilities)
                .map_err(|_| ApiError::Internal("failed to encode rows as JSON"))
        };
        match (&self.body.rows, self.sent.get()) {
            (BodyRows::Numbers(_), Some(sent)) => Ok(sent.clone()),
            (BodyRows::Numbers(rows), None) => {
                let sent = encode(rows)?;
                Ok(self.sent.get_or_init(|| sent).clone())
            }
            (BodyRows::Named(named), _) if revision.has_numbers_as_categories => {
                // A predictor would read the index of a category as a name.
                Ok(Bytes::copy_from_slice(named.body()))
            }
            (BodyRows::Named(_), _) => encode(&*self.rows(revision)?),
        }
    }
}
