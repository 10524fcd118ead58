//! Single flight for `GET /model`: requests that arrive during a call share its result. Results are not cached, so a request that
//! arrives after a failed call makes a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tokio::time::timeout_at;

use crate::error::UpstreamError;
use crate::revision::Revision;
use crate::upstream::pool::Deadline;

/// The result of `GET /model`.
pub(crate) type DescribeResult = Result<Arc<Revision>, UpstreamError>;

/// The calls of `GET /model` to one predictor, one at a time.
#[derive(Default)]
pub(crate) struct DescribeFlight {
    /// How many calls have ended.
    ended: AtomicU64,
    last: Mutex<Option<DescribeResult>>,
}

impl DescribeFlight {
    /// Runs `call`, or returns the result of the call that was running when this began.
    pub(crate) async fn share(
        &self,
        deadline: Deadline,
        call: impl Future<Output = DescribeResult>,
    ) -> DescribeResult {
        let ended_before = self.ended.load(Ordering::Acquire);
        let late = UpstreamError::DeadlineExceeded { after: deadline.after };
        let mut last = timeout_at(deadline.at, self.last.lock()).await.map_err(|_| late)?;
        if self.ended.load(Ordering::Acquire) != ended_before {
            match &*last {
                // The other caller's deadline is not this one's.
                None | Some(Err(UpstreamError::DeadlineExceeded { .. })) => {}
                Some(shared) => return shared.clone(),
            }
        }
        let call = call.await;
        *last = Some(call.clone());
        self.ended.fetch_add(1, Ordering::Release);
        call
    }
}
