//! Predictors that are killed, hang, reset connections or answer garbage; and controls with a protection switched off.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::metrics::Scrape;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::report::{Expected, Failure};
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::Scene;
use crate::canopy::under_load;
use crate::model::{Model, State, TIMEOUT, revision};
use crate::signals::signal_pods;
use crate::test_gateways::TestGateways;

/// How often each gateway ejects a faulty pod and sends requests to it again, before the pod is deleted.
const EJECTIONS: usize = 2;
/// A pod without attempts for this long is ejected: others get some 30 a second from each gateway.
const WITHOUT_ATTEMPTS: Duration = Duration::from_millis(500);
/// How often two of three pods are killed until no request fails. Rows that two pods had received are not sent to a third, since
/// they may be what ended those: a request fails if it was hedged to both of the pods that are killed. The control without
/// retries fails some requests each time.
const ROUNDS_MAX: usize = 3;
/// How long a pod hangs: longer than a request may take, and well below the 20 to 30 s after which its liveness probe has failed three
/// times and restarts it.
const HANG: Duration = Duration::from_secs(12);
/// The longest time until a pod that hangs is unready.
const UNREADY_WITHIN: Duration = Duration::from_secs(20);
/// The same in the control without retries, where every request that the pod gets fails.
const HANG_IN_CONTROL: Duration = Duration::from_secs(10);
/// The least number of failures in a control.
const FAILURES_MIN: usize = 3;

/// Kills the processes of `count` pods at once, and returns when they serve again.
async fn kill(model: &Model<'_>, count: usize) -> Result<()> {
    let serving = revision(&model.read()?)?;
    let before = model.pods(&serving)?;
    ensure!(
        before.len() > count && before.values().all(|pod| pod.is_ready),
        "expected ready pods, got {before:?}"
    );
    let lost: Vec<_> = before.iter().take(count).collect();
    signal_pods("KILL", lost.iter().map(|(_, pod)| *pod))?;
    until("the pods to serve again", TIMEOUT, async || {
        let now = model.pods(&serving)?;
        for (name, State { uid, restarts, .. }) in &lost {
            let pod = now.get(*name).with_context(|| format!("pod {name} was deleted"))?;
            ensure!(pod.is_ready && pod.restarts > *restarts, "expected a restart of {name}, got {pod:?}");
            ensure!(pod.uid == *uid, "expected the same pod {name}, got {pod:?}");
        }
        Ok(())
    })
    .await
}

/// Stops the process of one pod for a while; returns when the pod was unready and is ready again.
async fn hang(model: &Model<'_>) -> Result<()> {
    let serving = revision(&model.read()?)?;
    let before = model.pods(&serving)?;
    let (name, hung) = before.iter().next().context("the model has no pods")?;
    signal_pods("STOP", [hung])?;
    let unready = until("the pod to be unready", UNREADY_WITHIN, async || {
        let now = model.pods(&serving)?;
        ensure!(now.get(name).is_some_and(|pod| !pod.is_ready), "expected {name} unready, got {now:?}");
        Ok(())
    });
    // The process continues, also after a failure.
    let (unready, ()) = tokio::join!(unready, pass(HANG));
    signal_pods("CONT", [hung])?;
    unready?;
    until("the pod to be ready again", TIMEOUT, async || {
        let now = model.pods(&serving)?;
        let pod = now.get(name).with_context(|| format!("pod {name} was deleted"))?;
        ensure!(
            pod.is_ready && pod.restarts == hung.restarts,
            "expected {name} ready and not restarted since {hung:?}, got {pod:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictors_that_are_killed_or_hang_fail_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-killed", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 3}), &[]).await?;
        let mut load = scene.load().await?;
        load.during("one of three killed", kill(&scene.model, 1)).await?;
        let mut rounds = Vec::new();
        loop {
            let phase = format!("two of three killed, round {}", rounds.len() + 1);
            load.during(&phase, kill(&scene.model, 2)).await?;
            if load.failed_in_phase() == 0 || rounds.len() + 1 == ROUNDS_MAX {
                break;
            }
            rounds.push(phase);
        }
        load.during("one of three hangs", hang(&scene.model)).await?;
        load.calm("after").await?;
        let expected = |phase| Expected { phase, kinds: &[Failure::Status(503)], at_least: 1 };
        let expected: Vec<_> = rounds.iter().map(|phase| expected(phase.as_str())).collect();
        let case = "one and two of three predictors killed, one hangs for 12 s";
        load.stop().await.failed_as_expected(case, &expected)
    })
    .await
}

/// Scaling needs drain only; pods that are lost or hang need retries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retries_scaling_fails_no_request_but_lost_and_hung_pods_do() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-no-retry", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 1}), &[("CANOPY_RETRY_PERCENT", "0")]).await?;
        let model = &scene.model;
        let serving = revision(&model.read()?)?;
        let mut load = scene.load().await?;
        for replicas in [4, 2] {
            let scaled = async {
                model.scale(replicas)?;
                model.has_pods(&serving, replicas).await
            };
            load.during(&format!("scaled to {replicas}"), scaled).await?;
        }
        load.calm("after scaling").await?;

        load.phase("one of two hangs");
        let before = model.pods(&serving)?;
        let hung = before.values().next().context("the model has no pods")?;
        signal_pods("STOP", [hung])?;
        pass(HANG_IN_CONTROL).await;
        signal_pods("CONT", [hung])?;
        load.fails(Failure::Late, FAILURES_MIN).await?;
        let first = load.stop().await;
        first.failed_as_expected(
            "scaled from 1 to 4 to 2, then a hung pod, without retries",
            &[Expected {
                phase: "one of two hangs",
                kinds: &[Failure::Late, Failure::Status(503), Failure::Status(504)],
                at_least: FAILURES_MIN,
            }],
        )?;

        model.has_pods(&serving, 2).await?;
        scene.gateways.wait_until_known("tiny", super::ROWS[0].0).await?;
        let mut load = scene.load().await?;
        load.during("one of two killed", kill(model, 1)).await?;
        load.stop().await.failed_as_expected(
            "control: one of two predictors killed, without retries",
            &[Expected {
                phase: "one of two killed",
                kinds: &[Failure::Status(503), Failure::Status(504), Failure::Late],
                at_least: 1,
            }],
        )
    })
    .await
}

/// The same steps as above, 4 to 2, with pods that end at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictors_that_end_without_draining_fail_requests() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-no-drain", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 4}), &[("CANOPY_RETRY_PERCENT", "0")]).await?;
        let serving = revision(&scene.model.read()?)?;
        let deployment = format!("tiny-{serving}");
        scene.model.patch(&json!({"paused": true}))?;
        scene.model.condition("Progressing", "False", "Paused").await?;
        let mut template = namespace.json("deployments", &deployment)?["spec"]["template"].take();
        let container = &mut template["spec"]["containers"][0];
        let mut variables = container["env"].as_array().cloned().unwrap_or_default();
        variables.push(json!({"name": "CANOPY_DRAIN_SECONDS", "value": "0"}));
        container["env"] = json!(variables);
        let containers = &template["spec"]["containers"];
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        namespace.patch("deployments", &deployment, &patch)?;
        namespace.kubectl(&["rollout", "status", "deployment", &deployment, "--timeout", "120s"])?;
        scene.model.has_pods(&serving, 4).await?;
        scene.gateways.wait_until_known("tiny", super::ROWS[0].0).await?;

        let mut load = scene.load().await?;
        let scaled = async {
            namespace.patch("deployments", &deployment, &json!({"spec": {"replicas": 2}}))?;
            scene.model.has_pods(&serving, 2).await
        };
        load.during("scaled from 4 to 2", scaled).await?;
        load.stop().await.failed_as_expected(
            "control: scaled from 4 to 2, with predictors that do not drain and without retries",
            &[Expected {
                phase: "scaled from 4 to 2",
                kinds: &[Failure::Status(503), Failure::Status(504), Failure::Late],
                at_least: 1,
            }],
        )
    })
    .await
}

/// A pod that the model's Services select, with a gateway in the place of its predictor, listening on `port`.
fn start_impostor(
    namespace: &Namespace,
    model: &Model<'_>,
    gateways: &TestGateways<'_>,
    port: u16,
) -> Result<()> {
    let service = namespace.json("services", &format!("{}-pods", model.name))?;
    gateways.start_pod("impostor", &service["spec"]["selector"], |container| {
        container["args"] = json!(["--listen", format!("0.0.0.0:{port}")]);
        container["ports"] = json!([{"name": "http-canopy", "containerPort": 8001}]);
    })
}

/// The attempts of each gateway that failed, by the metrics at their admin ports.
async fn failed_attempts(gateways: &[Forward]) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for gateway in gateways {
        let scrape = Scrape(gateway.get("/metrics").await?.text);
        let count = |labels: &[&str]| scrape.count("canopy_gateway_upstream_requests_total", labels);
        // A cancelled attempt does not show that its pod is faulty.
        let others = count(&["outcome=\"ok\""])? + count(&["outcome=\"cancelled\""])?;
        all.push(count(&[])? - others);
    }
    Ok(all)
}

/// Returns when each gateway had more failed attempts than before: only the impostor causes them.
async fn impostor_got_requests(gateways: &[Forward], before: &[u64]) -> Result<()> {
    until("requests to the impostor", TIMEOUT, async || {
        let now = failed_attempts(gateways).await?;
        let all_more = now.iter().zip(before).all(|(now, before)| now > before);
        ensure!(all_more, "expected more failed attempts of each gateway than {before:?}, got {now:?}");
        Ok(())
    })
    .await
}

/// Returns the failed attempts when no gateway has sent requests to the impostor for a while.
async fn impostor_is_ejected(gateways: &[Forward]) -> Result<Vec<u64>> {
    until("the impostor to be ejected", TIMEOUT, async || {
        let before = failed_attempts(gateways).await?;
        pass(WITHOUT_ATTEMPTS).await;
        let now = failed_attempts(gateways).await?;
        ensure!(
            now == before,
            "expected {before:?} failed attempts while the impostor is ejected, got {now:?}"
        );
        Ok(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_answer_garbage_or_reset_connections_fail_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-garbage", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let gateways = scene.gateways.admin().await?;
        let mut load = scene.load().await?;
        for (what, port) in
            [("one of three answers garbage", 8001), ("one of three resets connections", 8002)]
        {
            let faulty = async {
                let before = failed_attempts(&gateways).await?;
                start_impostor(namespace, &scene.model, &scene.gateways, port)?;
                impostor_got_requests(&gateways, &before).await?;
                for _ in 0..EJECTIONS {
                    let at_ejection = impostor_is_ejected(&gateways).await?;
                    impostor_got_requests(&gateways, &at_ejection).await?;
                }
                namespace.kubectl(&["delete", "pod", "impostor", "--grace-period", "0", "--force"]).map(drop)
            };
            load.during(what, faulty).await?;
        }
        load.calm("after").await?;
        load.stop().await.all_answered("one of three pods answers garbage, then resets connections")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_answers_garbage_fails_requests_where_it_is_not_ejected() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-no-eject", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[("CANOPY_EJECT_TIME", "0s")]).await?;
        let gateways = scene.gateways.admin().await?;
        let before = failed_attempts(&gateways).await?;
        let mut load = scene.load().await?;
        load.phase("an impostor");
        start_impostor(namespace, &scene.model, &scene.gateways, 8001)?;
        impostor_got_requests(&gateways, &before).await?;
        load.fails(Failure::Status(503), FAILURES_MIN).await?;
        load.stop().await.failed_as_expected(
            "control: one of three pods answers garbage and is not ejected",
            &[Expected {
                phase: "an impostor",
                kinds: &[Failure::Status(503), Failure::Status(504), Failure::Late],
                at_least: FAILURES_MIN,
            }],
        )
    })
    .await
}
