//! The task that writes queued predictions in batches. A batch whose result is unknown is written again, which has no effect if it
//! was written. A prediction that is not written is counted as dropped.

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

/// How many values a batch holds beyond one prediction per entry, approximately.
const BATCH_VALUES: usize = 1 << 16;
/// The time limit for writing a batch.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// The pause after a failure, doubled with each consecutive one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How many times in a row the database may reject a batch. After about half a minute of rejections the batch itself is at fault, or
/// waiting does not help.
const REFUSALS_MAX: u32 = 12;

/// The progress of the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many predictions are written or dropped, in the order of the queue.
    pub(crate) done: u64,
    /// When the latest of them was made, in milliseconds since 1970.
    pub(crate) latest: u64,
}

/// The writer task.
pub(crate) struct Writer {
    pub(crate) queue: mpsc::Receiver<Entry>,
    pub(crate) store: SqlStore,
    pub(crate) tuning: RecordingTuning,
    /// How many values are queued beyond one prediction per entry.
    pub(crate) values: Arc<AtomicUsize>,
    pub(crate) dropped: IntCounter,
    /// The deadline for the last write, once the process shuts down.
    pub(crate) end: watch::Receiver<Option<Instant>>,
    /// How many predictions were taken from the queue.
    pub(crate) taken: u64,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Writer {
    /// Writes until shutdown, and then what is left in the queue.
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

    /// Migrates the tables, so that problems with the database are logged before the first prediction.
    async fn prepare(&mut self) {
        let preparing = async {
            let mut pause = PAUSE_MIN;
            while let Err(error) = self.store.prepare().await {
                tracing::warn!(%error, "failed to prepare the database; retrying");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        tokio::select! { biased; () = preparing => {}, () = deadline_passed(self.end.clone()) => {} }
    }

    /// The first prediction of the next batch, after a pause in which others may join it. A sender wakes the writer only for the first
    /// one; the timer wakes it for the rest.
    async fn first(&mut self) -> Option<Entry> {
        let Self { queue, end, tuning, .. } = self;
        let first = tokio::select! {
            biased;
            first = queue.recv() => first?,
            () = shutdown_started(end) => {
                queue.close();
                return queue.recv().await;
            }
        };
        tokio::select! { () = sleep(tuning.batch_delay) => {}, () = shutdown_started(end) => {} }
        Some(first)
    }

    fn add(&self, batch: &mut Batch, entry: Entry) {
        let values = entry.values();
        if let Err(error) = batch.add(entry) {
            tracing::error!(%error, "failed to encode a prediction as JSON");
            batch.values -= values;
            self.values.fetch_sub(values, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Writes `batch`, or drops it at the deadline or after too many rejections.
    async fn write(&self, batch: &mut Batch) {
        let answers = batch.predictions.len() as u64;
        if answers == 0 {
            return self.report_progress(None);
        }
        let written = tokio::select! {
            biased;
            written = self.try_until_written(batch) => written,
            () = deadline_passed(self.end.clone()) => Err("the process shuts down"),
        };
        if let Err(why) = written {
            tracing::error!(answers, "predictions are dropped: {why}");
            self.dropped.inc_by(answers);
        }
        self.values.fetch_sub(batch.values, Ordering::Relaxed);
        let latest = batch.predictions.last().and_then(|answer| Uuid::from_slice(&answer.id).ok());
        *batch = Batch::default();
        self.report_progress(latest.and_then(given_at));
    }

    /// Reports that everything taken so far is processed; the last prediction was made at `latest`.
    fn report_progress(&self, latest: Option<u64>) {
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
                        tracing::info!(
                            seconds = began.elapsed().as_secs_f64(),
                            "the database accepts predictions again"
                        );
                        return Ok(());
                    }
                    Err(error) => error,
                };
            tracing::warn!(%error, answers = batch.predictions.len(), "failed to record predictions; retrying");
            refusals = if error.is_refusal() { refusals + 1 } else { 0 };
            if refusals >= REFUSALS_MAX {
                return Err("the database rejects them");
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// When the prediction `id` was made, in milliseconds since 1970, if the id has a time.
pub(crate) fn given_at(id: Uuid) -> Option<u64> {
    let (seconds, nanoseconds) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    Some(seconds.saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000)))
}

/// Waits until shutdown begins or the recorder is dropped.
async fn shutdown_started(end: &mut watch::Receiver<Option<Instant>>) {
    // Both end the wait.
    drop(end.wait_for(Option::is_some).await);
}

/// Waits until the deadline for the last write, or until the recorder is dropped.
async fn deadline_passed(mut end: watch::Receiver<Option<Instant>>) {
    let at = end.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    if let Some(at) = at {
        sleep_until(at).await;
    }
}
