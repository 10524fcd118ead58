//! The one task that writes answers into the database.
//!
//! Comes in: answers from a queue, and the order to end. Goes out: rows, in batches. Never: an answer that is lost without
//! being counted, nor one that is written twice; a batch whose fate is unknown is written again, which changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::recording::entry::{Batch, Entry};
use crate::settings::RecordingTuning;
use crate::store::{SqlStore, StoreQueryError};

/// How many numbers a batch holds beside one answer for each id, or a little more.
const BATCH_VALUES: usize = 1 << 16;
/// How long the database may take for a batch.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long a failure is followed by nothing; twice as long with each in a row,
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often in a row a database that is there may refuse a batch. What is wrong with it for so long, some half a minute,
/// is the batch, or is not mended by waiting.
const REFUSALS_MAX: u32 = 12;

/// How far the writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many answers are written, or dropped for good. They are taken in the order of the queue.
    pub(crate) done: u64,
    /// When the latest of them was given, in milliseconds since 1970.
    pub(crate) latest: u64,
}

/// Who writes.
pub(crate) struct Writer {
    pub(crate) queue: mpsc::Receiver<Entry>,
    pub(crate) store: SqlStore,
    pub(crate) tuning: RecordingTuning,
    /// How many numbers wait, beside one answer for each id.
    pub(crate) values: Arc<AtomicUsize>,
    pub(crate) dropped: IntCounter,
    /// When everything must be written, once the end is near.
    pub(crate) end: watch::Receiver<Option<Instant>>,
    /// How many answers were taken out of the queue.
    pub(crate) taken: u64,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Writer {
    /// Writes until the end, and then what still waits.
    pub(crate) async fn run(mut self) {
        self.prepare().await;
        let mut batch = Batch::default();
        while let Some(first) = self.first().await {
            let mut next = Some(first);
            while let Some(entry) = next {
                self.taken += 1;
                self.add(&mut batch, entry);
                if batch.predictions.len() >= self.tuning.batch_size || batch.values >= BATCH_VALUES {
                    self.write(&mut batch).await;
                }
                next = self.queue.try_recv().ok();
            }
            self.write(&mut batch).await;
        }
    }

    /// Makes the tables, so that what is wrong with the database is known before the first answer.
    async fn prepare(&mut self) {
        let preparing = async {
            let mut pause = PAUSE_MIN;
            while let Err(error) = self.store.prepare().await {
                tracing::warn!(%error, "the database cannot be prepared; it is tried again");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        tokio::select! { biased; () = preparing => {}, () = out_of_time(self.end.clone()) => {} }
    }

    /// The first answer of the next batch, and time for others to join it. A sender wakes the writer only for the
    /// first: while others come it is the clock that does, and no request pays for it.
    async fn first(&mut self) -> Option<Entry> {
        let Self { queue, end, tuning, .. } = self;
        let first = tokio::select! {
            biased;
            first = queue.recv() => first?,
            () = is_near(end) => {
                queue.close();
                return queue.recv().await;
            }
        };
        tokio::select! { () = sleep(tuning.batch_delay) => {}, () = is_near(end) => {} }
        Some(first)
    }

    fn add(&self, batch: &mut Batch, entry: Entry) {
        let values = entry.values();
        if let Err(error) = batch.add(entry) {
            tracing::error!(%error, "an answer cannot be written as JSON");
            batch.values -= values;
            self.values.fetch_sub(values, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Writes `batch`, or gives it up at the end of time, or when the database has refused it too often.
    async fn write(&self, batch: &mut Batch) {
        let answers = batch.predictions.len() as u64;
        if answers == 0 {
            return self.progresses(None);
        }
        let written = tokio::select! {
            biased;
            written = self.try_until_written(batch) => written,
            () = out_of_time(self.end.clone()) => Err("the process must end"),
        };
        if let Err(why) = written {
            tracing::error!(answers, "answers are not recorded: {why}");
            self.dropped.inc_by(answers);
        }
        self.values.fetch_sub(batch.values, Ordering::Relaxed);
        let latest = batch.predictions.last().and_then(|answer| Uuid::from_slice(&answer.id).ok());
        *batch = Batch::default();
        self.progresses(latest.and_then(given_at));
    }

    /// Everything that was taken is done with, of which the latest was given at `latest`.
    fn progresses(&self, latest: Option<u64>) {
        self.progress.send_if_modified(|progress| {
            let before = *progress;
            progress.done = self.taken;
            progress.latest = progress.latest.max(latest.unwrap_or_default());
            *progress != before
        });
    }

    async fn try_until_written(&self, batch: &Batch) -> Result<(), &'static str> {
        let (mut pause, mut refusals, began) = (PAUSE_MIN, 0, Instant::now());
        loop {
            let error: StoreQueryError =
                match self.store.write(&batch.predictions, &batch.revisions, WRITE_TIME).await {
                    Ok(()) if pause == PAUSE_MIN => return Ok(()),
                    Ok(()) => {
                        tracing::info!(seconds = began.elapsed().as_secs_f64(), "answers are recorded again");
                        return Ok(());
                    }
                    Err(error) => error,
                };
            tracing::warn!(%error, answers = batch.predictions.len(), "answers wait for the database");
            refusals = if error.is_refusal() { refusals + 1 } else { 0 };
            if refusals >= REFUSALS_MAX {
                return Err("the database refuses them");
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// When the answer `id` was given, in milliseconds since 1970; nothing where the id does not say.
pub(crate) fn given_at(id: Uuid) -> Option<u64> {
    let (seconds, nanoseconds) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    Some(seconds.saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000)))
}

/// Returns when the end is near, or nobody is left to say so.
async fn is_near(end: &mut watch::Receiver<Option<Instant>>) {
    // Either way there is no more to wait for.
    drop(end.wait_for(Option::is_some).await);
}

/// Returns when there is no more time to write, or nobody left to give any.
async fn out_of_time(mut end: watch::Receiver<Option<Instant>>) {
    let at = end.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
