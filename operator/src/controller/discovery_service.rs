//! The discovery Service `predictors` of each namespace with models, through which gateways list models.
//!
//! It has no owner, because it outlives single models, and is deleted after the last. Invariant: a namespace whose
//! calls fail or hang does not delay others.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};

use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, BackoffPolicy};

/// Backoff of namespaces with failed calls.
const FAILURES: BackoffPolicy = BackoffPolicy {
    free_attempts: 0,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_mins(1),
    reset_after: Duration::from_mins(5),
};
/// Maximum number of namespaces processed at the same time.
const MAX_CONCURRENT: usize = 8;

/// Maintains the Services of namespaces from the queue.
pub async fn run(mut queue: mpsc::Receiver<String>, cluster: Cluster) {
    let (failures, permits) = (Backoff::new(FAILURES), Semaphore::new(MAX_CONCURRENT));
    let maintain = async |namespace: String, delay: Duration| {
        tokio::time::sleep(delay).await;
        let _permit = permits.acquire().await;
        let result = cluster.reconcile_discovery_service(&namespace).await;
        (namespace, result)
    };
    let mut in_progress = FuturesUnordered::new();
    // Namespaces in progress, and those of them that were enqueued again.
    let (mut busy, mut again) = (HashSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            received = queue.recv() => {
                let Some(namespace) = received else { return };
                if busy.insert(namespace.clone()) {
                    in_progress.push(maintain(namespace, Duration::ZERO));
                } else {
                    again.insert(namespace);
                }
            }
            Some((namespace, result)) = in_progress.next() => {
                let delay = match result {
                    Ok(later) => {
                        failures.reset(&namespace);
                        later.or_else(|| again.contains(&namespace).then_some(Duration::ZERO))
                    }
                    Err(error) => {
                        let delay = failures.record_failure(&namespace);
                        tracing::warn!(%error, ?delay, "failed to update a discovery Service; retrying");
                        Some(error.retry_after().map_or(delay, |requested| requested + delay))
                    }
                };
                again.remove(&namespace);
                match delay {
                    Some(delay) => in_progress.push(maintain(namespace, delay)),
                    None => drop(busy.remove(&namespace)),
                }
            }
        }
    }
}
