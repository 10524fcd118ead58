//! Predictors and gateways that are replaced one after the other; and a control with gateways that do not drain.

use anyhow::{Result, ensure};
use canopy_tests::namespace::in_namespace;
use canopy_tests::report::{Expected, Failure};
use canopy_tests::wait::until;
use serde_json::json;

use super::Scene;
use crate::canopy::under_load;
use crate::model::{TIMEOUT, revision};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_of_predictors_and_gateways_fail_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-roll", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let old = revision(&scene.model.read()?)?;
        let before = scene.model.pods(&old)?;
        let mut load = scene.load().await?;
        let restarted = async {
            namespace.kubectl(&["annotate", "predictormodel", "tiny", "canopy.rs/restartedAt=now"])?;
            until("the end of the old pods", TIMEOUT, async || {
                let left = namespace.names("pods")?;
                let is_left = before.keys().any(|pod| left.contains(pod));
                ensure!(!is_left, "expected none of {:?}, got {left:?}", before.keys());
                Ok(())
            })
            .await
        };
        load.during("predictors restarted", restarted).await?;
        ensure!(revision(&scene.model.ready()?)? != old, "expected another revision than {old}");
        load.during("gateways restarted", async { scene.gateways.restart() }).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("rolling restarts of predictors and gateways")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_end_without_draining_fail_requests() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-gateway-no-drain", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[("CANOPY_DRAIN_SECONDS", "0")]).await?;
        let mut load = scene.load().await?;
        load.during("gateways restarted", async { scene.gateways.restart() }).await?;
        load.stop().await.failed_as_expected(
            "control: a rolling restart of gateways that do not drain",
            &[Expected {
                phase: "gateways restarted",
                kinds: &[Failure::Connection, Failure::Status(503), Failure::Late],
                at_least: 1,
            }],
        )
    })
    .await
}
