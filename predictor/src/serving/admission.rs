//! Where heavy work waits for its turn, no longer than somebody waits for its answer.
//!
//! Comes in: the wish for a turn, and for how long it is of use. Goes out: the turn, or at once that there will be none.
//! Never: a queue that grows with what cannot be done anyway; who is refused early can still ask elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long work may wait, whatever its caller would grant: an answer after two seconds is of little use.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Work that takes long itself may wait for so many times as long.
const TIMES: f64 = 4.0;
/// While nobody knows how long work takes, so many may wait for each place.
const UNKNOWN_MAX: usize = 16;
/// How much of the mean a piece of work takes is that of the last one.
const LAST: f64 = 0.1;

/// Turns at heavy work, of which only so many are taken at once.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_once: usize,
    places: Arc<Semaphore>,
    /// How many wait.
    waiting: AtomicUsize,
    /// How long one piece of work takes: the bits of an `f64` of seconds.
    mean: AtomicU64,
}

/// A turn; it is over when this is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    began: Instant,
    _place: OwnedSemaphorePermit,
}

/// There would be no turn in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Turns {
    /// Turns for so many at once.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Inner {
            at_once,
            places: Arc::new(Semaphore::new(at_once)),
            waiting: AtomicUsize::new(0),
            mean: AtomicU64::new(0),
        }))
    }

    /// Waits for a turn, if one will come within `limit`. Who leaves while waiting gives up the place.
    pub async fn take(&self, limit: Duration) -> Result<Turn, Full> {
        let limit = match self.mean() {
            0.0 => limit,
            mean => limit.min(WAIT_MAX.max(Duration::from_secs_f64(TIMES * mean))),
        };
        if self.wait() > limit {
            return Err(Full);
        }
        let waiting = Waiting::new(&self.0);
        let place = timeout(limit, self.0.places.clone().acquire_owned()).await;
        drop(waiting);
        // The semaphore is never closed.
        let place = place.map_err(|_| Full)?.map_err(|_| Full)?;
        Ok(Turn { turns: self.clone(), began: Instant::now(), _place: place })
    }

    /// How many turns could be taken at once.
    pub fn free(&self) -> usize {
        self.0.places.available_permits()
    }

    /// How long who comes now will wait, as things go.
    fn wait(&self) -> Duration {
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

    /// How long one piece of work takes, in seconds; 0 while none was done.
    fn mean(&self) -> f64 {
        f64::from_bits(self.0.mean.load(Ordering::Relaxed))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (before, took) = (self.turns.mean(), self.began.elapsed().as_secs_f64());
        let next = if before == 0.0 { took } else { before + (took - before) * LAST };
        self.turns.0.mean.store(next.to_bits(), Ordering::Relaxed);
    }
}

/// One that waits, until it is dropped.
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

    /// Turns for two, of which each takes so many seconds, as far as is known.
    fn taking(seconds: f64) -> Turns {
        let turns = Turns::new(2);
        turns.0.mean.store(seconds.to_bits(), Ordering::Relaxed);
        turns
    }

    #[tokio::test]
    async fn while_nothing_was_done_a_few_may_wait_as_long_as_they_like() {
        let turns = Turns::new(2);
        let _taken = [turns.take(SECOND).await.unwrap(), turns.take(SECOND).await.unwrap()];
        let mut waiting: Vec<_> = (0..2 * UNKNOWN_MAX).map(|_| Box::pin(turns.take(SECOND * 100))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        assert_eq!(turns.take(SECOND * 100).now_or_never().unwrap().unwrap_err(), Full);
    }

    #[tokio::test]
    async fn work_that_takes_long_may_wait_for_longer() {
        let turns = taking(3.0);
        let _taken = [turns.take(SECOND).await.unwrap(), turns.take(SECOND).await.unwrap()];
        assert_eq!(turns.take(SECOND).now_or_never().unwrap().unwrap_err(), Full, "its caller does not");
        let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(turns.take(SECOND * 30))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        assert_eq!(turns.take(SECOND * 30).now_or_never().unwrap().unwrap_err(), Full);
    }

    #[tokio::test]
    async fn who_would_wait_for_too_long_is_told_at_once() {
        let turns = taking(0.5);
        let taken = [turns.take(SECOND).await.unwrap(), turns.take(SECOND).await.unwrap()];
        // A quarter of a second each.
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(turns.take(SECOND))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none(), "it waits");
        }
        assert_eq!(turns.take(SECOND).now_or_never().unwrap().unwrap_err(), Full);
        drop(waiting.pop());
        assert!(turns.take(SECOND).now_or_never().is_none(), "who leaves gives up the place");
        drop(waiting);
        let short = Duration::from_millis(200);
        assert_eq!(turns.take(short).now_or_never().unwrap().unwrap_err(), Full, "who grants less");
        drop(taken);
        drop(turns.take(short).now_or_never().unwrap().unwrap());
    }

    #[tokio::test]
    async fn nobody_waits_for_longer_than_it_is_of_use() {
        let turns = taking(0.01);
        let _taken = [turns.take(SECOND).await.unwrap(), turns.take(SECOND).await.unwrap()];
        assert_eq!(turns.take(SECOND / 2).await.unwrap_err(), Full);
        let began = Instant::now();
        assert_eq!(turns.take(SECOND * 100).await.unwrap_err(), Full, "a second is the most");
        assert!((SECOND..SECOND * 5).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_mean_follows_what_work_takes() {
        let turns = taking(0.5);
        for _ in 0..100 {
            drop(turns.take(SECOND).await.unwrap());
        }
        assert!(turns.mean() < 0.01, "{}", turns.mean());
    }
}
