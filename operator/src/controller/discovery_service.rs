//! The Service `predictors` of each namespace, by which the gateway lists models.
//!
//! Comes in: namespaces whose models may have changed. Goes out: a Service in each that has models, and none in
//! the others. Never: an owner; the Service outlives each single model, and goes after the last.
//!
//! Invariant: a namespace whose calls fail or hang delays no other.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};

use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, BackoffPolicy};

/// How tries in a namespace slow down while they fail.
const FAILURES: BackoffPolicy = BackoffPolicy {
    free_attempts: 0,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_mins(1),
    reset_after: Duration::from_mins(5),
};
/// How many namespaces are looked at at the same time.
const AT_ONCE: usize = 8;

/// Keeps the Services until nobody has news any more.
pub async fn run(mut queue: mpsc::Receiver<String>, cluster: Cluster) {
    let (failures, places) = (Backoff::new(FAILURES), Semaphore::new(AT_ONCE));
    let keep = async |namespace: String, delay: Duration| {
        tokio::time::sleep(delay).await;
        let _place = places.acquire().await;
        let ended = cluster.reconcile_discovery_service(&namespace).await;
        (namespace, ended)
    };
    let mut under_way = FuturesUnordered::new();
    // Those that are under way, and of them those that have changed again.
    let (mut busy, mut again) = (HashSet::new(), BTreeSet::new());
    loop {
        tokio::select! {
            come = queue.recv() => {
                let Some(namespace) = come else { return };
                if busy.insert(namespace.clone()) {
                    under_way.push(keep(namespace, Duration::ZERO));
                } else {
                    again.insert(namespace);
                }
            }
            Some((namespace, ended)) = under_way.next() => {
                let delay = match ended {
                    Ok(later) => {
                        failures.reset(&namespace);
                        later.or_else(|| again.contains(&namespace).then_some(Duration::ZERO))
                    }
                    Err(error) => {
                        let delay = failures.record_failure(&namespace);
                        tracing::warn!(%error, ?delay, "the list of models of a namespace is tried again");
                        Some(error.retry_after().map_or(delay, |asked| asked + delay))
                    }
                };
                again.remove(&namespace);
                match delay {
                    Some(delay) => under_way.push(keep(namespace, delay)),
                    None => drop(busy.remove(&namespace)),
                }
            }
        }
    }
}
