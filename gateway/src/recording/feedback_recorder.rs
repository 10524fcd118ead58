//! Keeps the truth about an answer and counts it: both, or neither, also where the client leaves meanwhile.
//!
//! A truth is counted by the gateway that stored it, once. Where the database does not say whether it stored a truth,
//! the row is looked for until that is known or `CHECKS` are over; only then, or when the process is killed, may a truth
//! be stored and not counted.

use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::ModelRef;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::store::{FeedbackRow, SqlStore, StoreQueryError};

/// How often a truth is looked for of which it is not known whether it is stored.
const CHECKS: u32 = 12;
/// How long before the first look; twice as long before each later one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How many truths are looked for at once.
const CHECKING_MAX: usize = 256;

/// A truth, and what it says about the answer.
pub(crate) struct EvaluatedFeedback {
    pub(crate) feedback: FeedbackRow,
    pub(crate) model: ModelRef,
    pub(crate) version: String,
    pub(crate) correct: u64,
    pub(crate) wrong: u64,
}

/// Stores truths and counts them.
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

    /// Stores and counts `judged`; false where a truth about the same answer was stored before.
    pub(crate) async fn record(&self, evaluated: EvaluatedFeedback) -> Result<bool, ApiError> {
        let (answer, answered) = oneshot::channel();
        let recorder = self.clone();
        // A task of its own goes on when the client has left.
        tokio::spawn(async move {
            let kept = recorder.store.insert_feedback(evaluated.feedback.clone()).await;
            if matches!(kept, Ok(true)) {
                recorder.count(&evaluated);
            }
            let may_have_been_applied = kept.as_ref().is_err_and(StoreQueryError::may_have_been_applied);
            // Nobody waits for the answer where the client has left.
            let _ = answer.send(kept);
            if may_have_been_applied {
                recorder.reconcile(&evaluated).await;
            }
        });
        match answered.await {
            Ok(kept) => kept.map_err(|why| ApiError::StoreUnavailable(why.to_string())),
            Err(_) => Err(ApiError::Internal("the task that keeps a truth panicked")),
        }
    }

    /// Counts `judged` if the database has stored it all the same.
    async fn reconcile(&self, evaluated: &EvaluatedFeedback) {
        let Ok(_place) = self.checking.try_acquire() else { return };
        let mut pause = PAUSE_MIN;
        for _ in 0..CHECKS {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            // What is not there yet may come: the server may hold the statement while others have the table.
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
