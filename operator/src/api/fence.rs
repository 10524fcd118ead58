//! The fence: the time until which this process may write. Each renewal of the Lease moves it forward.
//!
//! Invariant: no write starts or continues after that time. A process that was suspended, or whose renewals hang,
//! therefore cannot write while another operator leads.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The deadline of writes; closed until it is first set.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<watch::Sender<Option<Instant>>>);

/// This process is not the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this operator does not hold the Lease and must not write")]
pub struct FenceClosed;

impl Fence {
    /// Allows writes until a time. A time before the current deadline has no effect.
    pub fn open_until(&self, until: Instant) {
        self.0.send_if_modified(|present| {
            let is_later = present.is_none_or(|present| present < until);
            if is_later {
                *present = Some(until);
            }
            is_later
        });
    }

    /// Refuses writes from now on.
    pub fn close(&self) {
        self.0.send_replace(None);
    }

    /// The time until the deadline.
    pub fn remaining(&self) -> Duration {
        self.0.borrow().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits until writes are no longer allowed.
    pub async fn closed(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let Some(until) = open(until) else { return };
            tokio::select! {
                biased;
                // The sender belongs to this fence and is not dropped.
                _ = changes.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Runs `write` while writes are allowed, and aborts it at the deadline.
    pub async fn guard<T>(&self, write: impl Future<Output = T>) -> Result<T, FenceClosed> {
        let mut write = pin!(write);
        let mut closed = pin!(self.closed());
        poll_fn(|context| {
            // A process that resumes after a pause may get here before its timers fire, so the clock is read on each
            // poll.
            if open(*self.0.borrow()).is_none() || closed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(FenceClosed));
            }
            write.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// The deadline, if it has not passed.
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
    async fn a_write_in_progress_is_aborted_at_the_deadline_and_continues_if_the_deadline_moves() {
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
    async fn a_process_suspended_past_the_deadline_does_not_write() {
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
