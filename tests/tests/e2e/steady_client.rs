//! A client that requests predictions from all gateways without a pause. It never retries; the first failed request ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use canopy_tests::forward::Forward;

/// The least number of requests.
const REQUESTS_MIN: u32 = 200;

/// The revisions that answered, by gateway, without repetitions in a row.
pub(crate) type Revisions = BTreeMap<String, Vec<String>>;

/// A client that sends requests to all gateways, one after the other.
pub(crate) struct SteadyClient {
    enough: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(Vec<Forward>, Revisions)>>,
}

impl SteadyClient {
    pub(crate) fn start(gateways: Vec<Forward>, model: String, features: Vec<f64>) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let task = tokio::spawn(async move {
            let (mut revisions, mut requests, mut classes) = (Revisions::new(), 0_u32, BTreeSet::new());
            while requests < REQUESTS_MIN || !until.load(Ordering::Relaxed) {
                for gateway in &gateways {
                    let reply = gateway.predict(&model, &features).await?;
                    requests += 1;
                    ensure!(
                        reply.status == 200,
                        "request {requests} to {}: expected 200, got {}: {}",
                        gateway.pod,
                        reply.status,
                        reply.text
                    );
                    classes.insert(reply.json()?["prediction"]["class"].to_string());
                    let revision = reply.header("canopy-revision").to_owned();
                    let before = revisions.entry(gateway.pod.clone()).or_default();
                    if before.last() != Some(&revision) {
                        before.push(revision);
                    }
                }
            }
            ensure!(classes.len() == 1, "expected one class for the same row, got {classes:?}");
            Ok((gateways, revisions))
        });
        Self { enough, task }
    }

    pub(crate) async fn stop(self) -> Result<(Vec<Forward>, Revisions)> {
        self.enough.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
