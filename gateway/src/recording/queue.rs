//! The queue of predictions to be recorded. Requests never wait for the database, and the queue is bounded: a prediction that does
//! not fit, or that the database does not accept before the process ends, is dropped and counted. Each prediction is written or
//! counted as dropped, exactly once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use canopy_contract::rows::Rows;
use canopy_runtime::telemetry::log_limit::LogLimit;
use prometheus::IntCounter;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use crate::metrics::Metrics;
use crate::recording::entry::Entry;
use crate::recording::feedback_recorder::FeedbackRecorder;
use crate::recording::writer::{Progress, Writer, given_at};
use crate::revision::Revision;
use crate::settings::{Ratio, Recording};
use crate::store::{SqlStore, StoreQueryError};
use crate::upstream::message::Answers;

/// How many values may be queued beyond one prediction per entry: about 16 MB.
const QUEUED_VALUES_MAX: usize = 1 << 20;
/// How many of them one prediction may have: what a database accepts in one statement.
const ENTRY_VALUES_MAX: usize = 1 << 18;
/// How many predictions are deleted at once.
const DELETE_BATCH: u64 = 1000;
/// How many requests may wait for the writer at once.
const WAITING_MAX: usize = 1024;
/// By how many milliseconds predictions may be queued out of order.
const REORDER_WINDOW: u64 = 10_000;

/// One line per second is enough.
static DROPPED_LINES: LogLimit = LogLimit::per_second(1);

/// Queues predictions for a task that writes them.
pub(crate) struct Recorder {
    pub(crate) store: SqlStore,
    pub(crate) feedback: FeedbackRecorder,
    pub(crate) ratio: Ratio,
    records_features: bool,
    queue: mpsc::Sender<Entry>,
    /// How many predictions have entered the queue.
    queued: AtomicU64,
    progress: watch::Receiver<Progress>,
    /// Slots for requests that wait for the writer. They are separate from the queue, so that reads do not displace predictions.
    waiting: Semaphore,
    values: Arc<AtomicUsize>,
    dropped: IntCounter,
    /// How long a request waits for the writer.
    wait_timeout: Duration,
    end: watch::Sender<Option<Instant>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    expiry: Option<JoinHandle<()>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(expiry) = &self.expiry {
            expiry.abort();
        }
    }
}

impl Recorder {
    /// Starts the tasks that write and delete predictions.
    pub(crate) fn start(store: &SqlStore, recording: &Recording, metrics: &Arc<Metrics>) -> Self {
        let Recording { ratio, retention_seconds, features, tuning } = *recording;
        let (queue, receiver) = mpsc::channel(tuning.queue_capacity);
        let (end, ending) = watch::channel(None);
        let (values, dropped) = (Arc::default(), metrics.records_dropped());
        let (progress, watched) =
            watch::channel(Progress { done: 0, latest: milliseconds(SystemTime::now()) });
        let writer = Writer {
            queue: receiver,
            store: store.clone(),
            tuning,
            values: Arc::clone(&values),
            dropped: dropped.clone(),
            end: ending,
            taken: 0,
            progress,
        };
        let retention = Duration::from_secs(retention_seconds);
        let expiry = (!retention.is_zero())
            .then(|| tokio::spawn(delete_expired(store.clone(), retention, tuning.expiry_interval)));
        Self {
            store: store.clone(),
            feedback: FeedbackRecorder::new(store, metrics),
            ratio,
            records_features: features,
            queue,
            queued: AtomicU64::new(0),
            progress: watched,
            waiting: Semaphore::new(WAITING_MAX),
            values,
            dropped,
            wait_timeout: tuning.batch_delay + tuning.query_timeout,
            end,
            writing: Mutex::new(Some(tokio::spawn(writer.run()))),
            expiry,
        }
    }

    /// Whether `id` is in the recorded share. All gateways agree.
    pub(crate) fn is_recorded(&self, id: Uuid) -> bool {
        // An id begins with its time; its last bytes are random.
        let [.., a, b, c, d] = *id.as_bytes();
        self.ratio.includes(u32::from_be_bytes([a, b, c, d]))
    }

    /// Queues a prediction, without waiting. Values of a regression are not recorded.
    pub(crate) fn offer(&self, id: Uuid, revision: &Arc<Revision>, answers: Answers, rows: Rows) {
        if !self.is_recorded(id) || answers.are_values() {
            return;
        }
        let rows = self.records_features.then_some(rows);
        let entry = Entry { id, revision: revision.clone(), answers, rows };
        let values = entry.values();
        // An entry for one row is limited by the queue itself.
        let fits = values == 0 || self.reserve_values(values);
        if !fits {
            return self.count_dropped();
        }
        let Ok(place) = self.queue.try_reserve() else {
            if values > 0 {
                self.values.fetch_sub(values, Ordering::Relaxed);
            }
            return self.count_dropped();
        };
        // Incremented before the writer can take the entry, so that a request that reads the number later waits for it.
        self.queued.fetch_add(1, Ordering::AcqRel);
        place.send(entry);
    }

    fn reserve_values(&self, values: usize) -> bool {
        let before = self.values.fetch_add(values, Ordering::Relaxed);
        let fits = values <= ENTRY_VALUES_MAX && before + values <= QUEUED_VALUES_MAX;
        if !fits {
            self.values.fetch_sub(values, Ordering::Relaxed);
        }
        fits
    }

    fn count_dropped(&self) {
        self.dropped.inc();
        if let Some(left_out) = DROPPED_LINES.admit() {
            tracing::warn!(left_out, "predictions are not recorded: the database does not keep up");
        }
    }

    /// How many predictions the writer must process before it is certain whether `id` is recorded. `None` if the database can be queried
    /// at once: the queue is empty, or the id is not recent.
    pub(crate) fn pending_for(&self, id: Uuid) -> Option<u64> {
        let queued = self.queued.load(Ordering::Acquire);
        let Progress { done, latest } = *self.progress.borrow();
        let given_at = given_at(id)?;
        let now = milliseconds(SystemTime::now());
        let is_recent = given_at + REORDER_WINDOW >= latest && given_at <= now + REORDER_WINDOW;
        (is_recent && done < queued).then_some(queued)
    }

    /// Waits until the first `pending_for` predictions are written or dropped.
    pub(crate) async fn wait_written(&self, pending_for: u64) -> Result<(), StoreQueryError> {
        let late = StoreQueryError::Timeout(self.wait_timeout);
        let _place = self.waiting.try_acquire().map_err(|_| late.clone())?;
        let mut progress = self.progress.clone();
        let written =
            timeout(self.wait_timeout, progress.wait_for(|progress| progress.done >= pending_for)).await;
        written.ok().and_then(Result::ok).map(drop).ok_or(late)
    }

    /// Stops accepting predictions, and waits until all are written or `limit` has passed.
    pub(crate) async fn close(&self, limit: Duration) {
        self.end.send_replace(Some(Instant::now() + limit));
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writing) = writing {
            // A panic of the writer has been logged.
            drop(writing.await);
        }
    }
}

/// Deletes predictions older than `retention`, in batches.
async fn delete_expired(store: SqlStore, retention: Duration, every: Duration) {
    let (started, then) = (Instant::now(), SystemTime::now());
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(before) = cutoff(SystemTime::now(), then + started.elapsed(), retention) else { continue };
        let before = first_id_at(before);
        loop {
            match store.delete_before(&before, DELETE_BATCH).await {
                Ok(deleted) if deleted >= DELETE_BATCH => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "failed to delete expired predictions; retrying later");
                    break;
                }
            }
        }
    }
}

/// The time before which predictions are expired, by the earlier of the wall clock `now` and the monotonic `passed`: a clock that
/// jumps ahead must not delete recent predictions.
fn cutoff(now: SystemTime, passed: SystemTime, retention: Duration) -> Option<SystemTime> {
    now.min(passed).checked_sub(retention)
}

/// The smallest id of a moment: ids begin with the time in milliseconds.
fn first_id_at(moment: SystemTime) -> [u8; 16] {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&milliseconds(moment).to_be_bytes()[2..]);
    id
}

/// Milliseconds since 1970.
fn milliseconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RecordingTuning;
    use crate::store::Store;
    use canopy_contract::names::ModelRef;
    use futures_util::poll;
    use serde_json::json;
    use std::task::Poll;

    /// A recorder with a queue of ten that writes only when closed, and a revision.
    async fn recorder(folder: &tempfile::TempDir) -> (Recorder, Arc<Revision>) {
        let url = format!("sqlite://{}", folder.path().join("canopy.db").display());
        let Ok(Store::Database(store)) = Store::open(Some(&url), Duration::from_secs(20)).await else {
            panic!("no database at {url}")
        };
        let metrics = Arc::new(Metrics::register(&canopy_runtime::metrics::Registry::new()).unwrap());
        let tuning = RecordingTuning {
            queue_capacity: 10,
            batch_delay: Duration::from_hours(1),
            ..RecordingTuning::default()
        };
        let recorder = Recorder::start(&store, &Recording { tuning, ..Recording::default() }, &metrics);
        let body = json!({
            "model": "iris", "namespace": "shop", "version": "1.0", "revision": "00000001",
            "task": "Classification", "features": [{"name": "x"}], "classes": ["no", "yes"],
            "quality": {"metric": "Accuracy", "value": 0.9, "samples": 30}, "digest": "00",
        });
        let model = ModelRef::parse("iris.shop", "shop").unwrap();
        (recorder, Arc::new(Revision::parse(body.to_string().as_bytes(), &model, &metrics).unwrap()))
    }

    impl Recorder {
        fn answers(&self, revision: &Arc<Revision>) -> Uuid {
            let id = Uuid::now_v7();
            let answer = Answers::one_class(1, 0.75);
            self.offer(id, revision, answer, Rows::single(vec![0.5]));
            id
        }
    }

    #[tokio::test]
    async fn waiting_requests_do_not_displace_predictions() {
        let folder = tempfile::tempdir().unwrap();
        let (recorder, revision) = recorder(&folder).await;
        let first = recorder.answers(&revision);
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(recorder.wait_written(recorder.pending_for(Uuid::now_v7()).unwrap())))
            .collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        assert!(matches!(poll!(Box::pin(recorder.wait_written(1))), Poll::Ready(Err(_))), "no slot is left");
        let ids: Vec<_> = (1..10).map(|_| recorder.answers(&revision)).collect();
        assert_eq!(recorder.dropped.get(), 0);
        recorder.close(Duration::from_secs(20)).await;
        for one in waiting {
            one.await.unwrap();
        }
        for id in ids.iter().chain([&first]) {
            assert!(recorder.store.find(id.as_bytes()).await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn requests_wait_only_for_recent_ids_and_only_while_predictions_are_queued() {
        let folder = tempfile::tempdir().unwrap();
        let (recorder, revision) = recorder(&folder).await;
        assert_eq!(recorder.pending_for(Uuid::now_v7()), None, "the queue is empty");
        let id = recorder.answers(&revision);
        assert_eq!(recorder.pending_for(id), Some(1));
        recorder.answers(&revision);
        assert_eq!(recorder.pending_for(id), Some(2));
        let at = |seconds: i64| {
            let (now, _) = id.get_timestamp().unwrap().to_unix();
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, now.saturating_add_signed(seconds), 0))
        };
        for other in [at(60), at(-60), Uuid::from_u128(u128::MAX), Uuid::nil()] {
            assert_eq!(recorder.pending_for(other), None, "{other}");
        }
        recorder.close(Duration::from_secs(20)).await;
        assert_eq!(recorder.pending_for(id), None, "the queue is empty again");
    }

    #[test]
    fn a_clock_that_jumps_deletes_no_recent_predictions() {
        let (day, year) = (Duration::from_hours(24), Duration::from_hours(24 * 365));
        let began = UNIX_EPOCH + 50 * year;
        // An hour has passed: the clock agrees, is a year ahead, or a year behind.
        let passed = began + Duration::from_hours(1);
        for (now, before) in
            [(passed, passed - day), (passed + year, passed - day), (passed - year, passed - year - day)]
        {
            assert_eq!(cutoff(now, passed, day), Some(before));
        }
        assert!(cutoff(UNIX_EPOCH, passed, Duration::MAX).is_none());
    }

    #[test]
    fn the_smallest_id_of_a_moment_separates_earlier_and_later_ids() {
        let id = Uuid::now_v7();
        let (seconds, nanoseconds) = id.get_timestamp().unwrap().to_unix();
        let moment = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        assert!(first_id_at(moment) <= *id.as_bytes());
        assert!(first_id_at(moment + Duration::from_millis(1)) > *id.as_bytes());
        assert!(first_id_at(UNIX_EPOCH - Duration::from_secs(1)) < *id.as_bytes());
    }
}
