//! Stores feedback and counts it, both or neither, even if the client disconnects.
//!
//! The gateway that stores feedback counts it, once. If the database does not confirm a write, the row is looked for up to `CHECKS`
//! times. Feedback is stored without being counted only if that fails or the process is killed.

use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::ModelRef;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::store::{FeedbackRow, SqlStore, StoreQueryError};

/// How often unconfirmed feedback is looked for.
const CHECKS: u32 = 12;
/// The pause before the first check, doubled before each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How many checks run at once.
const CHECKING_MAX: usize = 256;

/// Feedback to store, and its result.
pub(crate) struct EvaluatedFeedback {
    pub(crate) feedback: FeedbackRow,
    pub(crate) model: ModelRef,
    pub(crate) version: String,
    pub(crate) correct: u64,
    pub(crate) wrong: u64,
}

/// Stores and counts feedback.
#[derive(Clone)]
pub(crate) struct FeedbackRecorder {
    store: SqlStore,
    metrics: Arc<Metrics>,
    checking: Arc<Semaphore>,
}

impl FeedbackRecorder {
    pub(crate) fn new(store: &SqlStore, metrics: &Arc<Metrics>) -> Self {
        let checking = Arc::new(Semaphore::new(CHECKING_MAX));
        Self { store: store.clone(), metrics: metrics.clone(), checking }
    }

    /// Stores and counts feedback. Returns false if the prediction has feedback already.
    pub(crate) async fn record(&self, evaluated: EvaluatedFeedback) -> Result<bool, ApiError> {
        let (answer, answered) = oneshot::channel();
        let recorder = self.clone();
        // A task of its own, so that a disconnecting client does not cancel it.
        tokio::spawn(async move {
            let kept = recorder.store.insert_feedback(evaluated.feedback.clone()).await;
            if matches!(kept, Ok(true)) {
                recorder.count(&evaluated);
            }
            let may_have_been_applied = kept.as_ref().is_err_and(StoreQueryError::may_have_been_applied);
            // The receiver is gone if the client disconnected.
            let _ = answer.send(kept);
            if may_have_been_applied {
                recorder.reconcile(&evaluated).await;
            }
        });
        match answered.await {
            Ok(kept) => kept.map_err(|why| ApiError::StoreUnavailable(why.to_string())),
            Err(_) => Err(ApiError::Internal("the task that stores feedback panicked")),
        }
    }

    /// Counts feedback if the database stored it after all.
    async fn reconcile(&self, evaluated: &EvaluatedFeedback) {
        let Ok(_place) = self.checking.try_acquire() else { return };
        let mut pause = PAUSE_MIN;
        for _ in 0..CHECKS {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            // The row may still appear: the server may hold the statement while another one locks the table.
            if let Ok(Some(stored)) = self.store.feedback_of(&evaluated.feedback.id).await {
                if stored == evaluated.feedback {
                    self.count(evaluated);
                }
                return;
            }
        }
    }

    fn count(&self, evaluated: &EvaluatedFeedback) {
        let EvaluatedFeedback { model, version, correct, wrong, .. } = evaluated;
        self.metrics.count_feedback(model, version, *correct, *wrong);
    }
}
