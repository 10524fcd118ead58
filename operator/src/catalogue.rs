//! The Service `predictors` of each namespace, by which the gateway lists models.
//!
//! Comes in: namespaces whose models may have changed. Goes out: a Service in each that has models, and none in
//! the others. Never: an owner; the Service outlives each single model, and goes after the last.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cluster::Cluster;

/// After how long to try again what failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Keeps the Services until nobody has news any more.
pub async fn run(mut news: mpsc::Receiver<String>, cluster: Cluster) {
    let mut waiting = BTreeSet::new();
    loop {
        let come = if waiting.is_empty() {
            news.recv().await
        } else {
            match tokio::time::timeout(TRY_AGAIN, news.recv()).await {
                Ok(come) => come,
                Err(_) => waiting.pop_first(),
            }
        };
        let Some(namespace) = come else { return };
        match cluster.keep_catalogue(&namespace).await {
            Ok(()) => drop(waiting.remove(&namespace)),
            Err(error) => {
                tracing::warn!(%error, "the list of models of a namespace is tried again");
                waiting.insert(namespace);
            }
        }
    }
}
