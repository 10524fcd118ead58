//! Numbers of pods that change, and pods that are replaced one after the other.

use anyhow::{Result, ensure};
use canopy_tests::kubernetes::kubectl;
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use super::Scene;
use crate::canopy::{SYSTEM, exclusive, pods, rolled_out, under_load};
use crate::model::{TIMEOUT, revision};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_scale_from_one_to_four_to_two_fails_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-1-4-2", async |namespace| {
        // Without a second attempt: what is shown is that pods say farewell before they go.
        let scene = Scene::new(namespace, &json!({"replicas": 1}), &[("CANOPY_RETRY_PERCENT", "0")]).await?;
        let serving = revision(&scene.model.read()?)?;
        let mut load = scene.load().await?;
        for replicas in [4, 2] {
            let scaled = async {
                scene.model.scale(replicas)?;
                scene.model.has_pods(&serving, replicas).await
            };
            load.during(&format!("to {replicas}"), scaled).await?;
        }
        load.calm("after").await?;
        load.stop().await.all_answered("scaled from 1 to 4 to 2, without a second attempt")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_predictors_fails_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-roll", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let old = revision(&scene.model.read()?)?;
        let before = scene.model.pods(&old)?;
        let mut load = scene.load().await?;
        let restarted = async {
            namespace.kubectl(&["annotate", "predictormodel", "tiny", "canopy.rs/restartedAt=now"])?;
            until("the old pods to go", TIMEOUT, async || {
                let left = namespace.kubectl(&["get", "pods", "--output", "name"])?;
                ensure!(before.keys().all(|pod| !left.contains(pod.as_str())), "there are still {left}");
                Ok(())
            })
            .await
        };
        load.during("restart", restarted).await?;
        ensure!(revision(&scene.model.ready()?)? != old, "the annotation changed nothing");
        load.calm("after").await?;
        load.stop().await.all_answered("a rolling restart of the predictors")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_gateways_fails_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-front", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut load = scene.load().await?;
        load.during("restart", async { scene.gateways.restart() }).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("a rolling restart of the gateways")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_go_without_a_farewell_fail_requests() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-front-off", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[("CANOPY_DRAIN_SECONDS", "0")]).await?;
        let mut load = scene.load().await?;
        load.during("restart", async { scene.gateways.restart() }).await?;
        load.stop().await.some_failed("control: a rolling restart of gateways that do not drain")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_operators_fails_no_request() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-roll-op", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let before = pods("operator")?;
        let mut load = scene.load().await?;
        let restarted = async {
            kubectl(&["rollout", "restart", "deployment/canopy-operator", "--namespace", SYSTEM])?;
            rolled_out()
        };
        load.during("restart", restarted).await?;
        let after = pods("operator")?;
        ensure!(after.iter().all(|pod| !before.contains(pod)), "{before:?} are still among {after:?}");
        load.calm("after").await?;
        load.stop().await.all_answered("a rolling restart of the operators")
    })
    .await
}
