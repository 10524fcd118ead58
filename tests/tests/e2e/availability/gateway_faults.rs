//! Gateways that are killed or hang, as seen by clients of the Service.
//!
//! A killed gateway loses the requests in flight on its connections, and refuses new connections until it runs again. A hung
//! gateway answers late or not at all, until Kubernetes takes it out of the Service. In both cases the other gateway fails
//! no request, no client gets a wrong answer or an error status, and no request fails afterwards.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::load::{Load, Plan};
use canopy_tests::namespace::in_namespace;
use canopy_tests::report::{Expected, Failure};
use canopy_tests::wait::until;
use serde_json::json;

use super::{ROWS, Scene};
use crate::canopy::under_load;
use crate::model::{State, TIMEOUT};
use crate::signals::signal_pods;

impl Scene<'_> {
    /// The state of one gateway.
    fn gateway(&self, name: &str) -> Result<State> {
        self.gateways.states()?.remove(name).with_context(|| format!("gateway {name} was deleted"))
    }

    async fn gateway_is(&self, name: &str, is_ready: bool, restarts: u64) -> Result<()> {
        until(&format!("gateway {name} with ready = {is_ready}"), TIMEOUT, async || {
            let now = self.gateway(name)?;
            ensure!(
                now.is_ready == is_ready && now.restarts >= restarts,
                "expected {restarts} restarts and ready = {is_ready}, got {now:?}"
            );
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_or_hangs_fails_only_requests_of_its_own_connections() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-gateways", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let names: Vec<_> = scene.gateways.states()?.into_keys().collect();
        let [_, faulty] = &names[..] else { anyhow::bail!("expected two gateways, got {names:?}") };
        let other = scene.gateways.each("tiny", ROWS[0].0).await?[0];
        let mut of_other = Load::start(Plan { per_second: 100, ..Plan::predictions(other, "tiny", &ROWS) })?;
        let mut of_service = scene.load().await?;

        of_service.phase("killed");
        let before = scene.gateway(faulty)?;
        signal_pods("KILL", [&before])?;
        scene.gateway_is(faulty, true, before.restarts + 1).await?;
        of_service.phase_is_long_enough().await?;
        of_service.calm("after").await?;
        let killed = Expected { phase: "killed", kinds: &[Failure::Connection], at_least: 1 };
        of_service
            .stop()
            .await
            .failed_as_expected("one of two gateways killed, seen through the Service", &[killed])?;

        let mut of_service = scene.load().await?;
        of_service.phase("hung");
        let before = scene.gateway(faulty)?;
        signal_pods("STOP", [&before])?;
        let outcome = async {
            scene.gateway_is(faulty, false, before.restarts).await?;
            // The node updates its rules for the Service a moment later.
            scene.gateways.wait_until_known("tiny", ROWS[0].0).await?;
            let mut later = Load::start(Plan::predictions(scene.gateways.address, "tiny", &ROWS))?;
            later.calm("one gateway is out of the Service").await?;
            later.stop().await.all_answered("clients that connect after Kubernetes found the gateway unready")
        };
        let outcome = outcome.await;
        signal_pods("CONT", [&scene.gateway(faulty)?])?;
        outcome?;
        let hung = Expected { phase: "hung", kinds: &[Failure::Late, Failure::Connection], at_least: 1 };
        of_service
            .stop()
            .await
            .failed_as_expected("one of two gateways hangs, seen through the Service", &[hung])?;

        scene.gateway_is(faulty, true, before.restarts).await?;
        scene.load().await?.stop().await.all_answered("after both faults")?;
        of_other.calm("after").await?;
        of_other.stop().await.all_answered("the other gateway, while one is killed and hangs")
    })
    .await
}
