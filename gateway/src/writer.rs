//! The one task that writes answers into the database.
//!
//! Comes in: answers from a queue, and the order to end. Goes out: rows, in batches. Never: an answer that is lost without
//! being counted, nor one that is written twice; a batch whose fate is unknown is written again, which changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::entry::{Batch, Entry};
use crate::settings::RecordingHabits;
use crate::store::{Records, Unanswered};

/// How many numbers a batch holds beside one answer for each id, or a little more.
const BATCH_NUMBERS: usize = 1 << 16;
/// How long the database may take for a batch.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long a failure is followed by nothing; twice as long with each in a row,
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often in a row a database that is there may refuse a batch. What is wrong with it for so long, some half a minute,
/// is the batch, or is not mended by waiting.
const REFUSALS_MAX: u32 = 12;

/// What waits in the queue.
pub(crate) enum Message {
    /// An answer.
    Entry(Entry),
    /// Somebody who wants to know when all that came before is done with.
    Mark(oneshot::Sender<()>),
}

/// Who writes.
pub(crate) struct Writer {
    pub(crate) queue: mpsc::Receiver<Message>,
    pub(crate) records: Records,
    pub(crate) habits: RecordingHabits,
    /// How many numbers wait, beside one answer for each id.
    pub(crate) numbers: Arc<AtomicUsize>,
    pub(crate) dropped: IntCounter,
    /// When everything must be written, once the end is near.
    pub(crate) end: watch::Receiver<Option<Instant>>,
}

impl Writer {
    /// Writes until the end, and then what still waits.
    pub(crate) async fn run(mut self) {
        self.prepare().await;
        let mut batch = Batch::default();
        while let Some(first) = self.first().await {
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Entry(entry) => self.add(&mut batch, entry),
                    Message::Mark(done) => {
                        self.write(&mut batch).await;
                        // Who asked may have gone.
                        let _ = done.send(());
                    }
                }
                if batch.predictions.len() >= self.habits.batch || batch.numbers >= BATCH_NUMBERS {
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
            while let Err(error) = self.records.prepare().await {
                tracing::warn!(%error, "the database cannot be prepared; it is tried again");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        };
        tokio::select! { biased; () = preparing => {}, () = out_of_time(self.end.clone()) => {} }
    }

    /// The first message of the next batch, and time for others to join it. A sender wakes the writer only for the
    /// first: while others come it is the clock that does, and no request pays for it.
    async fn first(&mut self) -> Option<Message> {
        let Self { queue, end, habits, .. } = self;
        let first = tokio::select! {
            biased;
            first = queue.recv() => first?,
            () = is_near(end) => {
                queue.close();
                return queue.recv().await;
            }
        };
        tokio::select! { () = sleep(habits.age) => {}, () = is_near(end) => {} }
        Some(first)
    }

    fn add(&self, batch: &mut Batch, entry: Entry) {
        let numbers = entry.numbers();
        if let Err(error) = batch.add(entry) {
            tracing::error!(%error, "an answer cannot be written as JSON");
            batch.numbers -= numbers;
            self.numbers.fetch_sub(numbers, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Writes `batch`, or gives it up at the end of time, or when the database has refused it too often.
    async fn write(&self, batch: &mut Batch) {
        let answers = batch.predictions.len() as u64;
        if answers == 0 {
            return;
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
        self.numbers.fetch_sub(batch.numbers, Ordering::Relaxed);
        *batch = Batch::default();
    }

    async fn try_until_written(&self, batch: &Batch) -> Result<(), &'static str> {
        let (mut pause, mut refusals, began) = (PAUSE_MIN, 0, Instant::now());
        loop {
            let error: Unanswered =
                match self.records.write(&batch.predictions, &batch.revisions, WRITE_TIME).await {
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
