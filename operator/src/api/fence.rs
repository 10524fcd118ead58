//! The time until which this process may write. Each renewal of the Lease moves it on.
//!
//! Invariant: no write begins or goes on after that time. A process that was stopped for a while, or whose renewals hang,
//! therefore writes nothing beside the operator that leads by then.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The time until which this process may write; closed until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<watch::Sender<Option<Instant>>>);

/// This process does not lead, or no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this operator does not hold the Lease, so it must not write")]
pub struct FenceClosed;

impl Fence {
    /// Writes are allowed until then; a time before the present one changes nothing.
    pub fn open_until(&self, until: Instant) {
        self.0.send_if_modified(|present| {
            let is_later = present.is_none_or(|present| present < until);
            if is_later {
                *present = Some(until);
            }
            is_later
        });
    }

    /// Writes are refused from now on.
    pub fn close(&self) {
        self.0.send_replace(None);
    }

    /// How long writes are still allowed.
    pub fn remaining(&self) -> Duration {
        self.0.borrow().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Returns when writes are no longer allowed.
    pub async fn closed(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let Some(until) = open(until) else { return };
            tokio::select! {
                biased;
                // The sender is this fence's own.
                _ = changes.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Does `write` while writes are allowed, and gives it up where they no longer are.
    pub async fn guard<T>(&self, write: impl Future<Output = T>) -> Result<T, FenceClosed> {
        let mut write = pin!(write);
        let mut closed = pin!(self.closed());
        poll_fn(|context| {
            // A process that was stopped and goes on may be here before its timers are, so the clock is read each time.
            if open(*self.0.borrow()).is_none() || closed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(FenceClosed));
            }
            write.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// The time until which writes are allowed, where it has not passed.
fn open(until: Option<Instant>) -> Option<Instant> {
    until.filter(|until| Instant::now() < *until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test(start_paused = true)]
    async fn a_write_is_refused_unless_the_fence_is_open() {
        let fence = Fence::default();
        assert_eq!(fence.guard(ready(1)).await, Err(FenceClosed));
        fence.open_until(Instant::now() + Duration::from_secs(10));
        assert_eq!(fence.guard(ready(1)).await, Ok(1));
        fence.close();
        assert_eq!((fence.guard(ready(1)).await, fence.remaining()), (Err(FenceClosed), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_under_way_ends_with_the_deadline_and_goes_on_where_that_moves() {
        let (fence, began) = (Fence::default(), Instant::now());
        fence.open_until(began + Duration::from_secs(10));
        let moved = fence.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            moved.open_until(began + Duration::from_secs(20));
            moved.open_until(began + Duration::from_secs(1));
        });
        assert_eq!(fence.guard(pending::<()>()).await, Err(FenceClosed));
        assert_eq!(began.elapsed(), Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_a_write_at_once() {
        let (fence, began) = (Fence::default(), Instant::now());
        fence.open_until(began + Duration::from_secs(10));
        let (closed, ()) = tokio::join!(fence.guard(pending::<()>()), async { fence.close() });
        assert_eq!((closed, began.elapsed()), (Err(FenceClosed), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_past_the_deadline_writes_nothing_more() {
        let fence = Fence::default();
        fence.open_until(Instant::now() + Duration::from_secs(10));
        let mut polls = 0;
        let write = poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let stopped = async {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_secs(11)).await;
        };
        let (ended, ()) = tokio::join!(fence.guard(write), stopped);
        assert_eq!(ended, Err(FenceClosed));
        assert!(polls > 0);
    }
}
