//! Evictions: the disruption budget allows that of one of two pods, and refuses that of the last one.

use anyhow::{Result, ensure};
use canopy_tests::kubernetes::create_at;
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use super::Scene;
use crate::canopy::under_load;
use crate::model::{TIMEOUT, revision};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_pod_is_not_evicted() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-evict", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let serving = revision(&scene.model.read()?)?;
        let before = scene.model.pods(&serving)?;
        let mut load = scene.load().await?;
        let evicted = async {
            let mut held = 0;
            for name in before.keys() {
                let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", namespace.name);
                let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace.name}});
                if let Err(error) = create_at(&path, &body) {
                    ensure!(format!("{error:#}").contains("disruption budget"), "{error:#}");
                    held += 1;
                }
            }
            ensure!(held == 1, "expected one of two evictions to be refused, got {held}");
            until("a pod to go", TIMEOUT, async || {
                let now = scene.model.pods(&serving)?;
                ensure!(before.keys().any(|pod| !now.contains_key(pod)), "{now:?}");
                Ok(())
            })
            .await?;
            scene.model.has_pods(&serving, 2).await
        };
        load.during("eviction of both pods", evicted).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("eviction of both pods")
    })
    .await
}
