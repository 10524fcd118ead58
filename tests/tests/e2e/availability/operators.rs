//! Operators that are gone, or killed in the middle of a change.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::kubectl;
use canopy_tests::namespace::in_namespace;
use canopy_tests::slice::Slice;
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::Scene;
use super::changes::{grow, replaced};
use crate::audit::{leads, writes};
use crate::canopy::{SYSTEM, exclusive, leader, rolled_out, scale_operators, without_operators};
use crate::model::{TIMEOUT, revision};
use crate::signals::signal_predictors;

/// At how many moments an operator is killed, unless the slice `soak` runs.
const MOMENTS: u32 = 3;
const MOMENTS_FULL: u32 = 10;
/// A change takes about so long.
const CHANGE: Duration = Duration::from_secs(6);
/// Of the moments: the same every time.
const SEED: u64 = 42;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_operator_what_serves_goes_on_and_survives_the_loss_of_a_pod() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-no-op", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let serving = revision(&scene.model.read()?)?;
        let outcome = async {
            without_operators().await?;
            let mut load = scene.load().await?;
            let lost = async {
                let before = scene.model.pods(&serving)?;
                let (name, killed) = before.iter().next().context("there is a pod")?;
                signal_predictors("KILL", [killed])?;
                until("the pod to serve again", TIMEOUT, async || {
                    let now = scene.model.pods(&serving)?;
                    let pod = now.get(name).context("it is gone")?;
                    ensure!(pod.is_ready && pod.restarts > killed.restarts, "{pod:?}");
                    Ok(())
                })
                .await?;
                scene.gateways.restart()
            };
            load.during("a predictor killed, gateways replaced", lost).await?;
            load.calm("after").await?;
            load.stop().await.all_answered("no operator at all")
        };
        let outcome = outcome.await;
        scale_operators(2)?;
        rolled_out()?;
        until("a leader", TIMEOUT, async || leader()).await?;
        outcome
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_completes_whenever_its_operator_is_killed_and_no_two_operators_act_at_once() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-mid", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut chance = fastrand::Rng::with_seed(SEED);
        let moments = if Slice::Soak.runs() { MOMENTS_FULL } else { MOMENTS };
        let mark = writes()?.len();
        let mut load = scene.load().await?;
        for number in 0..moments {
            let moment = CHANGE.mul_f64(chance.f64());
            let killed = async {
                let old = revision(&scene.model.read()?)?;
                let leads = until("a leader", TIMEOUT, async || leader()).await?;
                grow(&scene.model, 11 + number)?;
                pass(moment).await;
                kubectl(&["delete", "pod", &leads, "--namespace", SYSTEM, "--grace-period", "0", "--force"])?;
                replaced(&scene.model, &old).await.map(drop)
            };
            load.during(&format!("killed {moment:.2?} into a change"), killed).await?;
        }
        load.calm("after").await?;
        rolled_out()?;

        let log = writes()?;
        let mut in_turn: Vec<_> = log.iter().skip(mark).filter_map(leads).collect();
        in_turn.dedup();
        let mut once = in_turn.clone();
        once.sort_unstable();
        once.dedup();
        ensure!(in_turn.len() == once.len(), "operators wrote by turns: {in_turn:?}");
        ensure!(in_turn.len() > 1, "no other operator took over: {in_turn:?}");
        load.stop().await.all_answered(&format!("an operator killed at {moments} moments, seed {SEED}"))
    })
    .await
}
