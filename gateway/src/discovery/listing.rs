//! The list of models as clients get it: made once every few seconds, however many of them ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::ApiError;

/// A list that is kept for a while.
pub(crate) struct CachedListing {
    keep: Duration,
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl CachedListing {
    /// Keeps each list for `keep`.
    pub(crate) fn new(keep: Duration) -> Self {
        Self { keep, last: Arc::default() }
    }

    /// The list that is kept, or the one that `make` makes at `now`. Requests that come meanwhile wait for that one.
    pub(crate) async fn get<M>(&self, now: Instant, make: impl FnOnce() -> M) -> Result<Bytes, ApiError>
    where
        M: Future<Output = Bytes> + Send + 'static,
    {
        let mut last = self.last.clone().lock_owned().await;
        if let Some((since, list)) = &*last
            && now.saturating_duration_since(*since) < self.keep
        {
            return Ok(list.clone());
        }
        let making = make();
        // A task of its own: clients that ask and leave must not have the work begun again and again.
        let task = tokio::spawn(async move {
            let bytes = making.await;
            *last = Some((now, bytes.clone()));
            bytes
        });
        task.await.map_err(|_| ApiError::Internal("the task that makes the list of models panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use futures_util::poll;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU8, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_list_is_made_once_for_all_that_ask_until_its_time_is_over() {
        let (kept, made) = (CachedListing::new(Duration::from_secs(3)), Arc::new(AtomicU8::new(0)));
        let ask = |now| {
            let made = made.clone();
            kept.get(now, || async move { Bytes::from(vec![made.fetch_add(1, Ordering::SeqCst)]) })
        };
        let began = Instant::now();
        for (after, expected) in [(0, 0), (2999, 0), (3000, 1), (5999, 1), (6000, 2)] {
            let now = began + Duration::from_millis(after);
            for list in join_all((0..1000).map(|_| ask(now))).await {
                assert_eq!(list.unwrap(), vec![expected]);
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_cost_the_next_one_the_work() {
        let (kept, release) = (CachedListing::new(Duration::from_hours(1)), Arc::new(Notify::new()));
        let made = Arc::new(AtomicU8::new(0));
        let ask = || {
            let (made, release) = (made.clone(), release.clone());
            kept.get(Instant::now(), || async move {
                release.notified().await;
                Bytes::from(vec![made.fetch_add(1, Ordering::SeqCst)])
            })
        };
        {
            let mut leaves = pin!(ask());
            assert!(poll!(&mut leaves).is_pending());
        }
        let mut stays = pin!(ask());
        assert!(poll!(&mut stays).is_pending());
        release.notify_one();
        assert_eq!(stays.await.unwrap(), vec![0]);
    }
}
