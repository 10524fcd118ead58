//! Somebody who asks for predictions without a pause, whatever happens meanwhile.
//!
//! Comes in: gateways, a model and a row. Goes out: the revisions that answered, in turn. Never: a second attempt; the
//! first request that fails is the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use canopy_tests::forward::Forward;

/// So often at least, however soon what happens meanwhile is over.
const ASKED_MIN: u32 = 200;

/// What each gateway answered with: the revisions, without repetitions in a row.
pub(crate) type Heard = BTreeMap<String, Vec<String>>;

/// Somebody who asks all gateways all the time, one after the other.
pub(crate) struct SteadyClient {
    enough: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(Vec<Forward>, Heard)>>,
}

impl SteadyClient {
    pub(crate) fn start(gateways: Vec<Forward>, model: String, features: Vec<f64>) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let task = tokio::spawn(async move {
            let (mut heard, mut asked, mut classes) = (Heard::new(), 0_u32, BTreeSet::new());
            while asked < ASKED_MIN || !until.load(Ordering::Relaxed) {
                for gateway in &gateways {
                    let reply = gateway.predict(&model, &features).await?;
                    asked += 1;
                    ensure!(
                        reply.status == 200,
                        "request {asked}: {} answered {}: {}",
                        gateway.pod,
                        reply.status,
                        reply.text
                    );
                    classes.insert(reply.json()?["prediction"]["class"].to_string());
                    let revision = reply.header("canopy-revision").to_owned();
                    let before = heard.entry(gateway.pod.clone()).or_default();
                    if before.last() != Some(&revision) {
                        before.push(revision);
                    }
                }
            }
            ensure!(classes.len() == 1, "the same row got the classes {classes:?}");
            Ok((gateways, heard))
        });
        Self { enough, task }
    }

    pub(crate) async fn stop(self) -> Result<(Vec<Forward>, Heard)> {
        self.enough.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
