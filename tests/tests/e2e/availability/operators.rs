//! Operators that are replaced, killed in the middle of a change, or gone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::forward::Forward;
use canopy_tests::http::Reply;
use canopy_tests::kubernetes::kubectl;
use canopy_tests::namespace::in_namespace;
use canopy_tests::slice::Slice;
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::changes::{grow, replaced};
use super::{ROWS, Scene};
use crate::audit::{Mark, leads};
use crate::canopy::{
    GATEWAY_PORT, SYSTEM, exclusive, leader, measurements, pods, rolled_out, scale_operators,
    without_operators,
};
use crate::model::{TIMEOUT, revision};
use crate::signals::signal_pods;

/// The number of moments at which an operator is killed, and that in the slice `soak`.
const MOMENTS: u32 = 3;
const MOMENTS_FULL: u32 = 10;
/// The usual length of a change.
const CHANGE: Duration = Duration::from_secs(6);
/// The seed of the moments: the same every time.
const SEED: u64 = 42;
/// The longest time without a leader after the leader was killed.
const TAKE_OVER: Duration = Duration::from_secs(20);

/// Replaces all operators, one after the other.
fn restart() -> Result<()> {
    let before = pods("operator")?;
    kubectl(&["rollout", "restart", "deployment/canopy-operator", "--namespace", SYSTEM])?;
    rolled_out()?;
    let after = pods("operator")?;
    ensure!(after.iter().all(|pod| !before.contains(pod)), "expected none of {before:?}, got {after:?}");
    Ok(())
}

/// The leader, once all operators run and it is the only one whose metrics report that it leads.
async fn only_leader() -> Result<String> {
    until("one leader", TIMEOUT, async || {
        let leads = leader()?;
        for pod in pods("operator")? {
            let found = measurements(&pod).await?.count("canopy_operator_leader", &[])?;
            let expected = u64::from(pod == leads);
            ensure!(
                found == expected,
                "{leads} holds the Lease: expected canopy_operator_leader = {expected} of {pod}, got {found}"
            );
        }
        Ok(leads)
    })
    .await
}

/// Kills the leader; returns when another operator leads.
async fn kill(first: &str) -> Result<()> {
    let killed = Instant::now();
    kubectl(&["delete", "pod", first, "--namespace", SYSTEM, "--grace-period", "0", "--force"])?;
    let second = until("another leader", TAKE_OVER, async || {
        let leader = leader()?;
        ensure!(leader != first, "{first} still holds the Lease");
        Ok(leader)
    })
    .await?;
    ensure!(killed.elapsed() < TAKE_OVER, "{second} took over after {:?}", killed.elapsed());
    Ok(())
}

/// Kills a predictor and starts another gateway while there is no operator.
async fn faults_without_operators(scene: &Scene<'_>) -> Result<()> {
    let serving = revision(&scene.model.read()?)?;
    let before = scene.model.pods(&serving)?;
    let (name, killed) = before.iter().next().context("the model has no pods")?;
    signal_pods("KILL", [killed])?;
    until("the pod to serve again", TIMEOUT, async || {
        let now = scene.model.pods(&serving)?;
        let pod = now.get(name).with_context(|| format!("pod {name} was deleted"))?;
        ensure!(pod.is_ready && pod.restarts > killed.restarts, "expected a restart of {name}, got {pod:?}");
        Ok(())
    })
    .await?;
    let gateways = &scene.gateways;
    gateways.start_pod("newcomer", &json!({"only": "newcomer"}), |_| ())?;
    let newcomer = Forward::open(&gateways.namespace.name, "newcomer", GATEWAY_PORT).await?;
    let is_right = |reply: &Reply| reply.status == 200;
    scene.model.predict_until(&newcomer, ROWS[0].0, "a prediction", is_right).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_that_are_replaced_killed_or_gone_fail_no_request_and_no_two_act_at_once() -> Result<()> {
    let _lock = exclusive().await?;
    let test = in_namespace("e2e-operators", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut chance = fastrand::Rng::with_seed(SEED);
        let moments = if Slice::Soak.runs() { MOMENTS_FULL } else { MOMENTS };
        let mark = Mark::now()?;
        let mut load = scene.load().await?;
        load.during("operators restarted", async { restart() }).await?;
        for number in 0..moments {
            let moment = CHANGE.mul_f64(chance.f64());
            let killed = async {
                let old = revision(&scene.model.read()?)?;
                let leads = only_leader().await?;
                grow(&scene.model, 11 + number)?;
                pass(moment).await;
                kill(&leads).await?;
                replaced(&scene.model, &old).await.map(drop)
            };
            load.during(&format!("killed {moment:.2?} into a change"), killed).await?;
        }
        rolled_out()?;
        let log = mark.writes()?;
        let mut in_turn: Vec<_> = log.iter().filter_map(leads).collect();
        in_turn.dedup();
        let mut once = in_turn.clone();
        once.sort_unstable();
        once.dedup();
        ensure!(
            in_turn.len() == once.len(),
            "expected one leader after the other, got writes of {in_turn:?}"
        );
        ensure!(in_turn.len() > 1, "expected writes of several leaders, got those of {in_turn:?}");

        let gone = async {
            without_operators().await?;
            load.during(
                "no operator: a predictor killed, a gateway started",
                faults_without_operators(&scene),
            )
            .await?;
            load.calm("after").await?;
            load.stop()
                .await
                .all_answered(&format!("operators replaced, killed at {moments} moments (seed {SEED}), gone"))
        };
        with_cleanup(gone, async || {
            scale_operators(2)?;
            rolled_out()?;
            until("a leader", TIMEOUT, async || leader()).await.map(drop)
        })
        .await
    });
    Box::pin(test).await
}
