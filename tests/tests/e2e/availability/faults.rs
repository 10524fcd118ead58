//! Pods that are lost, hang, or answer what is no answer, and what it takes that nobody hears of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::metrics::Scrape;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::{pass, until};
use serde_json::{Value, json};

use super::Scene;
use crate::canopy::under_load;
use crate::model::{Model, State, TIMEOUT, revision};
use crate::signals::signal_predictors;
use crate::test_gateways::TestGateways;

/// How long an impostor stays after it was asked: long enough to be tried again, and again.
const STAYS: Duration = Duration::from_secs(10);
/// How long a pod hangs.
const HANG: Duration = Duration::from_secs(20);

/// Kills the processes of so many pods of three at once, and returns when they serve again.
async fn kill(model: &Model<'_>, count: usize) -> Result<()> {
    let serving = revision(&model.read()?)?;
    let before = model.pods(&serving)?;
    ensure!(before.len() == 3 && before.values().all(|pod| pod.is_ready), "there are {before:?}");
    let lost: Vec<_> = before.iter().take(count).collect();
    signal_predictors("KILL", lost.iter().map(|(_, pod)| *pod))?;
    until("the pods to serve again", TIMEOUT, async || {
        let now = model.pods(&serving)?;
        for (name, State { uid, restarts, .. }) in &lost {
            let pod = now.get(*name).with_context(|| format!("pod {name} is gone"))?;
            ensure!(pod.is_ready && pod.restarts > *restarts, "pod {name} was not killed: {pod:?}");
            ensure!(pod.uid == *uid, "pod {name} was made anew");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_killed_fail_no_request_be_it_one_or_two_of_three() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-killed", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 3}), &[]).await?;
        let mut load = scene.load().await?;
        load.during("one killed", kill(&scene.model, 1)).await?;
        load.during("two killed", kill(&scene.model, 2)).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("one, then two of three predictors killed")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_killed_fail_requests_that_are_not_sent_again() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-killed-off", async |namespace| {
        let settings = [("CANOPY_RETRY_PERCENT", "0")];
        let scene = Scene::new(namespace, &json!({"replicas": 3}), &settings).await?;
        let mut load = scene.load().await?;
        load.during("two killed", kill(&scene.model, 2)).await?;
        load.stop().await.some_failed("control: two of three predictors killed, without a second attempt")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_hangs_for_twenty_seconds_fails_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-hangs", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let serving = revision(&scene.model.read()?)?;
        let before = scene.model.pods(&serving)?;
        let (name, hung) = before.iter().next().context("there is a pod")?;
        let mut load = scene.load().await?;
        let hangs = async {
            signal_predictors("STOP", [hung])?;
            let unready = until("the pod to be unready", HANG, async || {
                let now = scene.model.pods(&serving)?;
                ensure!(now.get(name).is_some_and(|pod| !pod.is_ready), "{now:?}");
                Ok(())
            });
            // Whatever comes of it, the process goes on.
            let (unready, ()) = tokio::join!(unready, pass(HANG));
            signal_predictors("CONT", [hung])?;
            unready?;
            until("the pod to be ready again", TIMEOUT, async || {
                let now = scene.model.pods(&serving)?;
                let pod = now.get(name).context("it is gone")?;
                ensure!(pod.is_ready && pod.restarts == hung.restarts, "{pod:?}");
                Ok(())
            })
            .await
        };
        load.during("one hangs", hangs).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("one of two predictors hangs for 20 s")
    })
    .await
}

/// A pod that Services take for one of the model's, with a gateway in the place of its predictor, listening on `port`.
fn impostor(namespace: &Namespace, model: &Model<'_>, port: u16) -> Result<()> {
    let name = format!("{}-pods", model.name);
    let service: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "service", &name, "--output", "json"])?)?;
    let deployment: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "deployment", "front", "--output", "json"])?)?;
    let mut spec = deployment["spec"]["template"]["spec"].clone();
    let container = &mut spec["containers"][0];
    container["args"] = json!(["--listen", format!("0.0.0.0:{port}")]);
    container["ports"] = json!([{"name": "http-canopy", "containerPort": 8001}]);
    container["readinessProbe"] = Value::Null;
    container["livenessProbe"] = Value::Null;
    spec["topologySpreadConstraints"] = json!([]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "impostor", "labels": service["spec"]["selector"]}, "spec": spec});
    namespace.apply(&pod.to_string())?;
    namespace.kubectl(&["wait", "--for=condition=Ready", "pod/impostor", "--timeout", "60s"])?;
    Ok(())
}

/// Returns when every gateway has asked the impostor: of what went wrong there is nothing else.
async fn is_asked(front: &TestGateways<'_>) -> Result<()> {
    for gateway in front.admin().await? {
        until("the impostor to be asked", TIMEOUT, async || {
            let attempts = Scrape(gateway.get("/metrics").await?.text);
            let count = |labels: &[&str]| attempts.count("canopy_gateway_upstream_requests_total", labels);
            // An attempt that was given up says nothing of its pod.
            let others = count(&["outcome=\"ok\""])? + count(&["outcome=\"cancelled\""])?;
            ensure!(count(&[])? > others, "{} has only good answers", gateway.pod);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn with_impostor(name: &str, port: u16, settings: &[(&str, &str)], good: Option<&str>) -> Result<()> {
    let _lock = under_load().await?;
    in_namespace(name, async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), settings).await?;
        let mut load = scene.load().await?;
        load.phase("an impostor");
        impostor(namespace, &scene.model, port)?;
        is_asked(&scene.gateways).await?;
        let Some(case) = good else {
            load.fails().await?;
            return load.stop().await.some_failed("control: a pod that answers garbage is not left alone");
        };
        pass(STAYS).await;
        load.goes_on().await?;
        namespace.kubectl(&["delete", "pod", "impostor", "--grace-period", "0", "--force"])?;
        load.calm("after").await?;
        load.stop().await.all_answered(case)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_answers_garbage_fails_no_request() -> Result<()> {
    with_impostor("e2e-garbage", 8001, &[], Some("one of three pods answers garbage")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_resets_connections_fails_no_request() -> Result<()> {
    with_impostor("e2e-resets", 8002, &[], Some("one of three pods resets connections")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_answers_garbage_fails_requests_where_it_is_not_left_alone() -> Result<()> {
    with_impostor("e2e-garbage-off", 8001, &[("CANOPY_EJECT_TIME", "0s")], None).await
}
