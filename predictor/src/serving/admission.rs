//! Admission of heavy work: at most a certain number of requests run at once, and few others wait.
//!
//! A request is refused at once if it would wait longer than its answer is of use, because its client can still try
//! another pod. So the queue never grows beyond what can be done in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The longest wait, whatever time-out the client has set, unless the work itself takes long (see [`TIMES`]).
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A request may wait this many times as long as the work takes on average, if that is more than [`WAIT_MAX`].
const TIMES: f64 = 4.0;
/// How many requests may wait per permit before the first one has finished and the duration of the work is known.
const UNKNOWN_MAX: usize = 16;
/// The weight of the newest duration in the moving average.
const LAST: f64 = 0.1;

/// Permits for heavy work, of which a fixed number are held at once. A clone shares them.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: usize,
    places: Arc<Semaphore>,
    /// How many requests wait.
    waiting: AtomicUsize,
    /// The moving average of how long the work takes: the bits of an `f64` in seconds.
    mean: AtomicU64,
}

/// A permit, which is returned when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Admission,
    began: Instant,
    _place: OwnedSemaphorePermit,
}

/// No permit will be free in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saturated;

impl Admission {
    /// Admits `at_once` requests at a time.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Inner {
            at_once,
            places: Arc::new(Semaphore::new(at_once)),
            waiting: AtomicUsize::new(0),
            mean: AtomicU64::new(0),
        }))
    }

    /// Waits for a permit, if one is expected within `limit`. A caller that drops the future leaves the queue.
    pub async fn acquire(&self, limit: Duration) -> Result<Permit, Saturated> {
        let limit = match self.mean() {
            0.0 => limit,
            mean => limit.min(WAIT_MAX.max(Duration::from_secs_f64(TIMES * mean))),
        };
        if self.expected_wait() > limit {
            return Err(Saturated);
        }
        let waiting = Waiting::new(&self.0);
        let place = timeout(limit, self.0.places.clone().acquire_owned()).await;
        drop(waiting);
        // The semaphore is never closed.
        let place = place.map_err(|_| Saturated)?.map_err(|_| Saturated)?;
        Ok(Permit { admission: self.clone(), began: Instant::now(), _place: place })
    }

    /// How many permits are free.
    pub fn free(&self) -> usize {
        self.0.places.available_permits()
    }

    /// How long the next request would wait, from the queue and the average duration of the work.
    fn expected_wait(&self) -> Duration {
        let Inner { at_once, waiting, .. } = &*self.0;
        if self.free() > 0 {
            return Duration::ZERO;
        }
        match (waiting.load(Ordering::Relaxed), self.mean()) {
            (before, 0.0) if before < UNKNOWN_MAX * at_once => Duration::ZERO,
            (_, 0.0) => Duration::MAX,
            (before, mean) => Duration::from_secs_f64(mean * (before + 1) as f64 / *at_once as f64),
        }
    }

    /// The average duration of the work in seconds; 0 before the first has finished.
    fn mean(&self) -> f64 {
        f64::from_bits(self.0.mean.load(Ordering::Relaxed))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (before, took) = (self.admission.mean(), self.began.elapsed().as_secs_f64());
        let next = if before == 0.0 { took } else { before + (took - before) * LAST };
        self.admission.0.mean.store(next.to_bits(), Ordering::Relaxed);
    }
}

/// A request in the queue, until it is dropped.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const SECOND: Duration = Duration::from_secs(1);

    /// Two permits, for work that takes `seconds` on average.
    fn taking(seconds: f64) -> Admission {
        let admission = Admission::new(2);
        admission.0.mean.store(seconds.to_bits(), Ordering::Relaxed);
        admission
    }

    #[tokio::test]
    async fn before_the_first_has_finished_a_few_may_wait_without_limit() {
        let admission = Admission::new(2);
        let _held = [admission.acquire(SECOND).await.unwrap(), admission.acquire(SECOND).await.unwrap()];
        let mut waiting: Vec<_> =
            (0..2 * UNKNOWN_MAX).map(|_| Box::pin(admission.acquire(SECOND * 100))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        assert_eq!(admission.acquire(SECOND * 100).now_or_never().unwrap().unwrap_err(), Saturated);
    }

    #[tokio::test]
    async fn long_work_may_wait_longer() {
        let admission = taking(3.0);
        let _held = [admission.acquire(SECOND).await.unwrap(), admission.acquire(SECOND).await.unwrap()];
        assert_eq!(
            admission.acquire(SECOND).now_or_never().unwrap().unwrap_err(),
            Saturated,
            "its limit is shorter"
        );
        let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(admission.acquire(SECOND * 30))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        assert_eq!(admission.acquire(SECOND * 30).now_or_never().unwrap().unwrap_err(), Saturated);
    }

    #[tokio::test]
    async fn a_request_that_would_wait_too_long_is_refused_at_once() {
        let admission = taking(0.5);
        let held = [admission.acquire(SECOND).await.unwrap(), admission.acquire(SECOND).await.unwrap()];
        // A quarter of a second each.
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(admission.acquire(SECOND))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        assert_eq!(admission.acquire(SECOND).now_or_never().unwrap().unwrap_err(), Saturated);
        drop(waiting.pop());
        assert!(admission.acquire(SECOND).now_or_never().is_none(), "a dropped future leaves the queue");
        drop(waiting);
        let short = Duration::from_millis(200);
        assert_eq!(
            admission.acquire(short).now_or_never().unwrap().unwrap_err(),
            Saturated,
            "a shorter limit"
        );
        drop(held);
        drop(admission.acquire(short).now_or_never().unwrap().unwrap());
    }

    #[tokio::test]
    async fn no_request_waits_longer_than_the_limit() {
        let admission = taking(0.01);
        let _held = [admission.acquire(SECOND).await.unwrap(), admission.acquire(SECOND).await.unwrap()];
        assert_eq!(admission.acquire(SECOND / 2).await.unwrap_err(), Saturated);
        let began = Instant::now();
        assert_eq!(admission.acquire(SECOND * 100).await.unwrap_err(), Saturated, "a second is the most");
        assert!((SECOND..SECOND * 5).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_average_follows_the_duration_of_the_work() {
        let admission = taking(0.5);
        for _ in 0..100 {
            drop(admission.acquire(SECOND).await.unwrap());
        }
        assert!(admission.mean() < 0.01, "{}", admission.mean());
    }
}
