//! Random faults and changes one after the other, while memory and open files are measured. The seed repeats a run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::kubectl;
use canopy_tests::metrics::Scrape;
use canopy_tests::namespace::in_namespace;
use canopy_tests::slice::Slice;
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::Scene;
use super::changes::{grow, replaced};
use crate::canopy::{SYSTEM, exclusive, leader, under_load};
use crate::model::{Model, TIMEOUT, revision};
use crate::signals::signal_pods;

/// The length, and that in the slice `soak`.
const TIME: Duration = Duration::from_secs(45);
const TIME_FULL: Duration = Duration::from_mins(20);
/// How many kinds of faults there are. The last, an operator that is killed, belongs to the slice: beside other tests, which
/// need the operators, it is left to `operators.rs`.
const KINDS: u32 = 5;
const KINDS_FULL: u32 = 6;
const SEED: u64 = 42;
/// The time between two faults.
const CALM: Duration = Duration::from_secs(5);
/// Limits for the growth of a gateway's memory and open files.
const BYTES_MAX: f64 = 6e6;
const FILES_MAX: f64 = 40.0;

fn kinds() -> u32 {
    if Slice::Soak.runs() { KINDS_FULL } else { KINDS }
}

/// Resident bytes and open files of a process.
async fn uses(admin: &Forward) -> Result<(f64, f64)> {
    let scrape = Scrape(admin.get("/metrics").await?.text);
    Ok((scrape.sum("process_resident_memory_bytes", &[])?, scrape.sum("process_open_fds", &[])?))
}

/// Makes one random fault or change; returns its name when it is over.
async fn random_fault(scene: &Scene<'_>, chance: &mut fastrand::Rng, number: u32) -> Result<&'static str> {
    let model: &Model<'_> = &scene.model;
    let serving = revision(&model.read()?)?;
    let any = |chance: &mut fastrand::Rng| {
        let pods = model.pods(&serving)?;
        let place = chance.usize(..pods.len().max(1));
        pods.into_iter().nth(place).context("there is a pod")
    };
    match chance.u32(..kinds()) {
        0 => {
            grow(model, 11 + number % 20)?;
            replaced(model, &serving).await?;
            Ok("a change")
        }
        1 => {
            let (name, pod) = any(chance)?;
            signal_pods("KILL", [&pod])?;
            until("the pod to be back", TIMEOUT, async || {
                let now = model.pods(&serving)?;
                let now = now.get(&name).context("it is gone")?;
                ensure!(now.is_ready && now.restarts > pod.restarts, "{now:?}");
                Ok(())
            })
            .await?;
            Ok("a predictor killed")
        }
        2 => {
            let (name, _) = any(chance)?;
            model.namespace.kubectl(&["delete", "pod", &name, "--wait=false"])?;
            until("the pod to go", TIMEOUT, async || {
                let now = model.pods(&serving)?;
                ensure!(!now.contains_key(&name), "it is still there");
                Ok(())
            })
            .await?;
            model.has_pods(&serving, 3).await?;
            Ok("a predictor deleted")
        }
        3 => {
            for replicas in [4, 3] {
                model.scale(replicas)?;
                model.has_pods(&serving, replicas).await?;
            }
            Ok("scaled up and down")
        }
        4 => {
            let (_, pod) = any(chance)?;
            signal_pods("STOP", [&pod])?;
            pass(CALM).await;
            signal_pods("CONT", [&pod])?;
            model.has_pods(&serving, 3).await?;
            Ok("a predictor hung")
        }
        _ => {
            let leads = until("a leader", TIMEOUT, async || leader()).await?;
            kubectl(&["delete", "pod", &leads, "--namespace", SYSTEM, "--grace-period", "0", "--force"])?;
            Ok("an operator killed")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_fails_no_request_and_nothing_grows() -> Result<()> {
    let _lock = if Slice::Soak.runs() { exclusive().await? } else { under_load().await? };
    in_namespace("e2e-soak", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 3}), &[]).await?;
        let time = if Slice::Soak.runs() { TIME_FULL } else { TIME };
        let mut chance = fastrand::Rng::with_seed(SEED);
        let gateways = scene.gateways.admin().await?;
        let mut load = scene.load().await?;
        let mut before = Vec::new();
        for gateway in &gateways {
            before.push(uses(gateway).await?);
        }
        let (start, mut number) = (Instant::now(), 0);
        while start.elapsed() < time {
            load.phase(&format!("{number}"));
            let what = random_fault(&scene, &mut chance, number).await?;
            load.rename(&format!("{number}: {what}"));
            pass(CALM).await;
            number += 1;
        }
        load.calm("after").await?;
        for (gateway, before) in gateways.iter().zip(before) {
            let after = uses(gateway).await?;
            println!("soak: {} went from {before:?} to {after:?} (resident bytes, open files)", gateway.pod);
            ensure!(
                after.0 - before.0 < BYTES_MAX && after.1 - before.1 < FILES_MAX,
                "{} grows",
                gateway.pod
            );
        }
        until("a leader", TIMEOUT, async || leader()).await?;
        load.stop().await.all_answered(&format!("soak of {time:?}, seed {SEED}, {number} faults and changes"))
    })
    .await
}
