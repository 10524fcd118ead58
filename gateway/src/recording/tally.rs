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

use crate::error::Failure;
use crate::metrics::Metrics;
use crate::store::{Feedback, Records, Unanswered};

/// How often a truth is looked for of which it is not known whether it is stored.
const CHECKS: u32 = 12;
/// How long before the first look; twice as long before each later one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How many truths are looked for at once.
const CHECKING_MAX: usize = 256;

/// A truth, and what it says about the answer.
pub(crate) struct Judged {
    pub(crate) told: Feedback,
    pub(crate) model: ModelRef,
    pub(crate) version: String,
    pub(crate) correct: u64,
    pub(crate) wrong: u64,
}

/// Stores truths and counts them.
#[derive(Clone)]
pub(crate) struct Tally {
    records: Records,
    metrics: Arc<Metrics>,
    checking: Arc<Semaphore>,
}

impl Tally {
    pub(crate) fn new(records: &Records, metrics: &Arc<Metrics>) -> Self {
        let checking = Arc::new(Semaphore::new(CHECKING_MAX));
        Self { records: records.clone(), metrics: metrics.clone(), checking }
    }

    /// Stores and counts `judged`; false where a truth about the same answer was stored before.
    pub(crate) async fn keep(&self, judged: Judged) -> Result<bool, Failure> {
        let (answer, answered) = oneshot::channel();
        let tally = self.clone();
        // A task of its own goes on when the client has left.
        tokio::spawn(async move {
            let kept = tally.records.tell(judged.told.clone()).await;
            if matches!(kept, Ok(true)) {
                tally.count(&judged);
            }
            let may_be_done = kept.as_ref().is_err_and(Unanswered::may_be_done);
            // Nobody waits for the answer where the client has left.
            let _ = answer.send(kept);
            if may_be_done {
                tally.find_out(&judged).await;
            }
        });
        match answered.await {
            Ok(kept) => kept.map_err(|why| Failure::Store(why.to_string())),
            Err(_) => Err(Failure::Internal("the task that keeps a truth panicked")),
        }
    }

    /// Counts `judged` if the database has stored it all the same.
    async fn find_out(&self, judged: &Judged) {
        let Ok(_place) = self.checking.try_acquire() else { return };
        let mut pause = PAUSE_MIN;
        for _ in 0..CHECKS {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            // What is not there yet may come: the server may hold the statement while others have the table.
            if let Ok(Some(stored)) = self.records.told(&judged.told.id).await {
                if stored == judged.told {
                    self.count(judged);
                }
                return;
            }
        }
    }

    fn count(&self, judged: &Judged) {
        let Judged { model, version, correct, wrong, .. } = judged;
        self.metrics.judged(model, version, *correct, *wrong);
    }
}
