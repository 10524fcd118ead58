//! What a predictor says of its model, asked for once however many wait for it.
//!
//! Comes in: a lesson that somebody would take now. Goes out: its outcome, or that of one which began later than
//! the wish. Never: two lessons at once, nor a memory of failure; who comes next tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tokio::time::timeout_at;

use crate::error::UpstreamError;
use crate::revision::Revision;
use crate::upstream::pool::Deadline;

/// What a lesson comes to.
pub(crate) type DescribeResult = Result<Arc<Revision>, UpstreamError>;

/// The lessons that one predictor has given.
#[derive(Default)]
pub(crate) struct DescribeFlight {
    /// How many have ended.
    ended: AtomicU64,
    last: Mutex<Option<DescribeResult>>,
}

impl DescribeFlight {
    /// The outcome of `lesson`, or of the one that is under way.
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
                // Its deadline was not ours.
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
