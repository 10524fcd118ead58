//! Answers on their way into the database, off the path of the requests that they were given to.
//!
//! Comes in: an answer, when its request is done. Goes out: rows, in batches. Never: a wait on the request's side, nor a
//! memory without bound: what finds no room in the queue is dropped and counted, and so is what the database has not
//! taken when the process must end. What is sent is written or counted as dropped, each exactly once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use canopy_contract::rows::Rows;
use canopy_runtime::budget::Budget;
use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use crate::answer::Answers;
use crate::entry::Entry;
use crate::known::Known;
use crate::metrics::Metrics;
use crate::settings::{Ratio, Recording};
use crate::store::{Records, Unanswered};
use crate::writer::{Message, Writer};

/// How many numbers may wait beside one answer for each id: some 16 MB.
const NUMBERS_MAX: usize = 1 << 20;
/// How many of them one answer may have: what a database takes in one statement.
const ENTRY_NUMBERS_MAX: usize = 1 << 18;
/// How many answers are deleted at once.
const FORGOTTEN_AT_ONCE: u64 = 1000;

/// One line a second is enough to say that answers are dropped.
static DROPS: Budget = Budget::new(1);

/// Takes answers in, for a task of its own to write.
pub(crate) struct Recorder {
    pub(crate) records: Records,
    pub(crate) ratio: Ratio,
    keeps_features: bool,
    queue: mpsc::Sender<Message>,
    numbers: Arc<AtomicUsize>,
    dropped: IntCounter,
    /// How long somebody waits for what was offered before to be written.
    patience: Duration,
    end: watch::Sender<Option<Instant>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    forgetting: Option<JoinHandle<()>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(forgetting) = &self.forgetting {
            forgetting.abort();
        }
    }
}

impl Recorder {
    /// Records what `recording` says in `records`, by tasks of the runtime that this is called in.
    pub(crate) fn start(records: &Records, recording: &Recording, metrics: &Metrics) -> Self {
        let Recording { ratio, retention_seconds, features, habits } = *recording;
        let (queue, receiver) = mpsc::channel(habits.queue);
        let (end, ending) = watch::channel(None);
        let (numbers, dropped) = (Arc::default(), metrics.records_dropped());
        let writer = Writer {
            queue: receiver,
            records: records.clone(),
            habits,
            numbers: Arc::clone(&numbers),
            dropped: dropped.clone(),
            end: ending,
        };
        let retention = Duration::from_secs(retention_seconds);
        let forgetting = (!retention.is_zero())
            .then(|| tokio::spawn(forget(records.clone(), retention, habits.forget_every)));
        Self {
            records: records.clone(),
            ratio,
            keeps_features: features,
            queue,
            numbers,
            dropped,
            patience: habits.age + habits.patience,
            end,
            writing: Mutex::new(Some(tokio::spawn(writer.run()))),
            forgetting,
        }
    }

    /// Whether the answer `id` is of the share that is recorded. Every gateway says the same.
    pub(crate) fn is_recorded(&self, id: Uuid) -> bool {
        // The first bytes of an id are its time, the last are random.
        let [.., a, b, c, d] = *id.as_bytes();
        self.ratio.admits(u32::from_be_bytes([a, b, c, d]))
    }

    /// An answer was given. All that this costs its request is a place in the queue.
    pub(crate) fn offer(&self, id: Uuid, known: &Arc<Known>, answers: Answers, rows: Rows) {
        if !self.is_recorded(id) {
            return;
        }
        let rows = self.keeps_features.then_some(rows);
        let entry = Entry { id, known: known.clone(), answers, rows };
        let numbers = entry.numbers();
        // One answer to one row is counted by the queue itself.
        let fits = numbers == 0 || self.take(numbers);
        if !fits {
            return self.dropped();
        }
        if self.queue.try_send(Message::Entry(entry)).is_err() {
            if numbers > 0 {
                self.numbers.fetch_sub(numbers, Ordering::Relaxed);
            }
            self.dropped();
        }
    }

    fn take(&self, numbers: usize) -> bool {
        let before = self.numbers.fetch_add(numbers, Ordering::Relaxed);
        let fits = numbers <= ENTRY_NUMBERS_MAX && before + numbers <= NUMBERS_MAX;
        if !fits {
            self.numbers.fetch_sub(numbers, Ordering::Relaxed);
        }
        fits
    }

    fn dropped(&self) {
        self.dropped.inc();
        if let Some(left_out) = DROPS.admit() {
            tracing::warn!(left_out, "answers are dropped: they come faster than the database takes them");
        }
    }

    /// Returns when all that was offered before is written, or was dropped.
    pub(crate) async fn settle(&self) -> Result<(), Unanswered> {
        let late = Unanswered::Late(self.patience);
        let (done, mark) = oneshot::channel();
        self.queue.try_send(Message::Mark(done)).map_err(|_| late.clone())?;
        timeout(self.patience, mark).await.ok().and_then(Result::ok).ok_or(late)
    }

    /// Takes no more in, and returns when everything is written, or `limit` is over.
    pub(crate) async fn close(&self, limit: Duration) {
        self.end.send_replace(Some(Instant::now() + limit));
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writing) = writing {
            // A writer that panicked has said so.
            drop(writing.await);
        }
    }
}

/// Deletes what is older than `retention`, bit by bit.
async fn forget(records: Records, retention: Duration, every: Duration) {
    let (started, then) = (Instant::now(), SystemTime::now());
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(before) = old(SystemTime::now(), then + started.elapsed(), retention) else { continue };
        let before = first_id_at(before);
        loop {
            match records.forget(&before, FORGOTTEN_AT_ONCE).await {
                Ok(deleted) if deleted >= FORGOTTEN_AT_ONCE => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "answers that are old cannot be deleted; it is tried again later");
                    break;
                }
            }
        }
    }
}

/// Before which moment answers are old, `now` by the wall clock and at `passed` by the time that went by. A clock that
/// jumps ahead must not delete what is young, nor one that is put right delete more than it was behind.
fn old(now: SystemTime, passed: SystemTime, retention: Duration) -> Option<SystemTime> {
    now.min(passed).checked_sub(retention)
}

/// The least id of a moment: ids begin with their time in milliseconds.
fn first_id_at(moment: SystemTime) -> [u8; 16] {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
    let mut id = [0; 16];
    id[..6].copy_from_slice(&milliseconds[2..]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_deletes_nothing_that_is_young() {
        let (day, year) = (Duration::from_hours(24), Duration::from_hours(24 * 365));
        let began = UNIX_EPOCH + 50 * year;
        // An hour has gone by, and the clock says so; or that a year has; or that it is a year ago.
        let passed = began + Duration::from_hours(1);
        for (now, before) in
            [(passed, passed - day), (passed + year, passed - day), (passed - year, passed - year - day)]
        {
            assert_eq!(old(now, passed, day), Some(before));
        }
        assert!(old(UNIX_EPOCH, passed, Duration::MAX).is_none());
    }

    #[test]
    fn the_least_id_of_a_moment_lies_between_those_before_and_after() {
        let id = Uuid::now_v7();
        let (seconds, nanoseconds) = id.get_timestamp().unwrap().to_unix();
        let moment = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        assert!(first_id_at(moment) <= *id.as_bytes());
        assert!(first_id_at(moment + Duration::from_millis(1)) > *id.as_bytes());
        assert!(first_id_at(UNIX_EPOCH - Duration::from_secs(1)) < *id.as_bytes());
    }
}
