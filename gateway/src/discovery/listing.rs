//! The cached list of models, created once every few seconds however many clients request it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::ApiError;

/// A cached list.
pub(crate) struct CachedListing {
    keep: Duration,
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl CachedListing {
    /// An empty cache whose lists are valid for `keep`.
    pub(crate) fn new(keep: Duration) -> Self {
        Self { keep, last: Arc::default() }
    }

    /// The cached list, or the result of `make`. Requests that arrive meanwhile wait for that result.
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
        // A task of its own, so that clients that disconnect do not cause the work to be repeated.
        let task = tokio::spawn(async move {
            let bytes = making.await;
            *last = Some((now, bytes.clone()));
            bytes
        });
        task.await.map_err(|_| ApiError::Internal("the task that lists the models panicked"))
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
    async fn a_list_is_created_once_for_all_requests_until_it_expires() {
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
    async fn a_client_that_disconnects_does_not_cancel_the_list() {
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
