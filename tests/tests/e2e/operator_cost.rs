//! The cost of many models: the time until they answer, the CPU and memory of an operator after its start and when idle, and the
//! time from a change to its effect.
//!
//! Writes are counted in the API server's audit log, independent of the operator's metrics.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use canopy_tests::api;
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::forward::Forward;
use canopy_tests::kubernetes::kubectl;
use canopy_tests::metrics::Scrape;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::slice::Slice;
use canopy_tests::wait::{SOON, pass, until};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::{Mark, is_operators, is_renewal};
use crate::canopy::{
    SYSTEM, exclusive_at_last, gateways, leader, measurements, rolled_out, scale_operators, without_operators,
};
use crate::model::{Model, TIMEOUT, condition_of, small};

/// The number of models with a pod each.
const SERVED: usize = 30;
const SERVED_FULL: usize = 50;
/// The numbers of models, including those without pods.
const MODELS: &[usize] = &[100];
const MODELS_FULL: &[usize] = &[100, 1000];
/// The number of models in one manifest.
const AT_ONCE: usize = 100;
/// The number and size of `ConfigMap`s that do not belong to Canopy.
const CONFIG_MAPS: usize = 200;
const CONFIG_MAPS_FULL: usize = 2_000;
const CONFIG_MAP_BYTES: usize = 100_000;
/// Their namespace.
const STRANGERS: &str = "e2e-strangers";
/// The length of the idle window.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_FULL: Duration = Duration::from_mins(10);
/// The number of models that are changed, one after the other.
const CHANGES: usize = 20;
const LIMIT: Duration = Duration::from_mins(6);
/// The longest time for a namespace with a thousand models to be deleted.
const GONE_WITHIN: Duration = Duration::from_mins(15);

/// Limits for an operator.
const CPU_MAX: f64 = 0.01;
const BYTES_MAX: f64 = 64e6;
/// With 1,000 models it is half of the chart's limit: each model adds about 66 KB.
const BYTES_MAX_FULL: f64 = 128e6;
/// The limit for the change of its memory by the other `ConfigMap`s.
const BYTES_MOVED_MAX: f64 = 4e6;
/// The limit for the median. The slowest change depends on the load of the machine, so its limit only excludes a poll interval.
const ACTS_WITHIN: Duration = Duration::from_secs(1);
const ACTS_AT_LAST_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_operator_with_many_models_writes_nothing_when_idle_and_acts_on_a_change_within_a_second()
-> Result<()> {
    let _lock = exclusive_at_last().await?;
    let gateway = gateways().await?.remove(0);
    let fewer: &[usize] = if is_full() { &[1, 10] } else { &[] };
    for &count in fewer {
        in_namespace(&format!("e2e-many-{count}"), async |namespace| {
            served(namespace, &gateway, count).await
        })
        .await?;
    }
    let test = in_namespace("e2e-many", async |namespace| {
        let mut there = if is_full() { SERVED_FULL } else { SERVED };
        served(namespace, &gateway, there).await?;
        for &count in if is_full() { MODELS_FULL } else { MODELS } {
            without_operators().await?;
            apply(namespace, there, count)?;
            cold_start(namespace, count).await?;
            idle(namespace, count).await?;
            there = count;
        }
        Ok(())
    });
    with_cleanup(test, async || {
        kubectl(&["delete", "namespace", STRANGERS, "--ignore-not-found", "--wait=false"])?;
        scale_operators(2)?;
        rolled_out()
    })
    .await
}

/// Whether the slice `scale` runs: more models, more `ConfigMap`s, and a longer window.
fn is_full() -> bool {
    Slice::Scale.runs()
}

fn config_map_count() -> usize {
    if is_full() { CONFIG_MAPS_FULL } else { CONFIG_MAPS }
}

/// Applies models with a pod each, and prints the seconds until the first and the last of them have answered.
#[expect(clippy::print_stdout, reason = "the figures are for people")]
async fn served(namespace: &Namespace, gateway: &Forward, count: usize) -> Result<()> {
    let names: Vec<_> = (0..count).map(|i| format!("m{i}")).collect();
    let reply = gateway.predict(&format!("m0.{}", namespace.name), &[1.0; 4]).await?;
    ensure!(
        reply.status == 404,
        "expected 404 before there is a model, got {}: {}",
        reply.status,
        reply.text
    );
    let start = Instant::now();
    apply_with(namespace, 0, count, 1)?;
    let mut first = None;
    for name in &names {
        let model = Model { namespace, name };
        until(&format!("an answer of {name}"), LIMIT, async || {
            let reply = gateway.predict(&model.full_name(), &[1.0; 4]).await?;
            ensure!(reply.status == 200, "expected 200, got {}: {}", reply.status, reply.text);
            Ok(())
        })
        .await?;
        first.get_or_insert_with(|| start.elapsed().as_secs_f64());
    }
    let (first, all) = (first.unwrap_or_default(), start.elapsed().as_secs_f64());
    let bytes = Forward::open(SYSTEM, &gateway.pod, 9000).await?.get("/metrics").await?;
    let bytes = Scrape(bytes.text).sum("process_resident_memory_bytes", &[])?;
    println!(
        "figure: {count} models: first answer after {first:.1} s, all after {all:.1} s; a gateway takes {bytes} bytes"
    );
    Ok(())
}

/// Models without pods, from one number to another.
fn apply(namespace: &Namespace, from: usize, to: usize) -> Result<()> {
    apply_with(namespace, from, to, 0)
}

fn apply_with(namespace: &Namespace, from: usize, to: usize, replicas: usize) -> Result<()> {
    for first in (from..to).step_by(AT_ONCE) {
        let of = first..to.min(first + AT_ONCE);
        let items =
            of.map(|i| serde_json::from_str(&small(&format!("m{i}"), &json!({"replicas": replicas}))));
        let items = items.collect::<Result<Vec<Value>, _>>()?;
        namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    }
    Ok(())
}

/// Starts the operators, and prints the seconds until all models have a status of their current spec.
#[expect(clippy::print_stdout, reason = "the figures are for people")]
async fn cold_start(namespace: &Namespace, count: usize) -> Result<()> {
    let began = Instant::now();
    scale_operators(2)?;
    until("an operator", TIMEOUT, async || leader()).await?;
    let leading = began.elapsed().as_secs_f64();
    until("all models to be reconciled", LIMIT, async || {
        let models = namespace.list("predictormodels", "")?;
        let is_done =
            |model: &&Value| model["status"]["observedGeneration"] == model["metadata"]["generation"];
        let done = models.iter().filter(is_done).count();
        ensure!(done == count, "expected {count} reconciled models, got {done}");
        Ok(())
    })
    .await?;
    let all = began.elapsed().as_secs_f64();
    println!(
        "figure: {count} models: an operator leads after {leading:.1} s, all are reconciled after {all:.1} s"
    );
    rolled_out()
}

/// Measures writes, CPU and memory of the operators in an idle window, and the time from changes to their effect.
#[expect(clippy::print_stdout, reason = "the figures are for people")]
async fn idle(namespace: &Namespace, count: usize) -> Result<()> {
    let operator = leader()?;
    until("the end of the models of earlier tests", GONE_WITHIN, async || only_in(namespace)).await?;
    quiet(namespace, &operator).await?;
    let usage = async || -> Result<(f64, f64)> {
        let scrape: Scrape = measurements(&operator).await?;
        Ok((scrape.sum("process_cpu_seconds_total", &[])?, scrape.sum("process_resident_memory_bytes", &[])?))
    };
    let (_, bytes_before) = usage().await?;
    config_maps()?;
    // Creating them loads a small node. Pods may have missed a probe, which the operator reports.
    quiet(namespace, &operator).await?;

    let (mark, before, since) = (Mark::now()?, usage().await?, Instant::now());
    pass(if is_full() { IDLE_FULL } else { IDLE }).await;
    let after = usage().await?;
    let cpu = (after.0 - before.0) / since.elapsed().as_secs_f64();
    let writes = mark.writes()?;
    let renewals = writes.iter().filter(|write| is_renewal(write)).count();
    let others = writes.iter().filter(|write| is_operators(write) && !is_renewal(write));
    let others: Vec<_> = others.map(|write| format!("{} {}", write["verb"], write["objectRef"])).collect();
    let acted = changes(namespace, count).await?;
    let (median, slowest) = (acted[acted.len() / 2], acted[acted.len() - 1]);
    println!(
        "figure: {count} models: idle: {renewals} renewals of the Lease, {} other writes, {:.2} % of a processor, {:.1} MB, which were {:.1} MB before {} other ConfigMaps; a change reaches its Deployment after {median:.0?} (median) and {slowest:.0?} (slowest of {CHANGES})",
        others.len(),
        cpu * 100.0,
        after.1 / 1e6,
        bytes_before / 1e6,
        config_map_count()
    );
    ensure!(
        renewals > 0,
        "expected renewals of the Lease, got none: does the API server write an audit log?"
    );
    ensure!(others.is_empty(), "expected no write of an idle operator, got {others:?}");
    ensure!(cpu < CPU_MAX, "an idle operator took {cpu} of a processor, the limit is {CPU_MAX}");
    let bytes_max = if count > MODELS[0] { BYTES_MAX_FULL } else { BYTES_MAX };
    ensure!(after.1 < bytes_max, "an operator takes {} bytes, the limit is {bytes_max}", after.1);
    let moved = (after.1 - bytes_before).abs();
    ensure!(moved < BYTES_MOVED_MAX, "the operator's memory went from {bytes_before} to {} bytes", after.1);
    ensure!(
        median < ACTS_WITHIN,
        "half of the changes took {median:?} or more, the limit is {ACTS_WITHIN:?}"
    );
    ensure!(
        slowest < ACTS_AT_LAST_WITHIN,
        "an operator acted only after {slowest:?}, the limit is {ACTS_AT_LAST_WITHIN:?}"
    );
    Ok(())
}

/// Returns when all models are settled and no operator has written or reconciled for three seconds.
async fn quiet(namespace: &Namespace, leader: &str) -> Result<()> {
    let mut last = None;
    let mark = Mark::now()?;
    until("the operators to be done", LIMIT, async || {
        let writes = mark.writes()?;
        let writes = writes.iter().filter(|write| is_operators(write) && !is_renewal(write)).count();
        let passes = measurements(leader).await?.count("canopy_operator_reconciles_total", &[])?;
        let now = Some((writes, passes));
        if last.replace((writes, passes)) != now {
            pass(Duration::from_secs(3)).await;
            bail!("the operators are at {writes} writes and {passes} passes, and not yet at rest");
        }
        settled(namespace)
    })
    .await
}

/// Fails unless all models with pods are ready.
fn settled(namespace: &Namespace) -> Result<()> {
    for model in namespace.list("predictormodels", "")? {
        let ready = condition_of(&model, "Ready")?;
        let expected = if model["spec"]["replicas"] == 0 { "False" } else { "True" };
        ensure!(
            ready["status"] == expected,
            "expected Ready {expected} of {}, got {ready}",
            model["metadata"]["name"]
        );
    }
    Ok(())
}

/// Fails while other namespaces have models or lists of models, because the operator repairs them until their namespace is
/// deleted.
fn only_in(namespace: &Namespace) -> Result<()> {
    let elsewhere = |objects: Vec<Value>, name: Option<&str>| -> Vec<String> {
        let is_elsewhere = |object: &&Value| {
            let metadata = &object["metadata"];
            metadata["namespace"] != *namespace.name && name.is_none_or(|name| metadata["name"] == name)
        };
        objects
            .iter()
            .filter(is_elsewhere)
            .map(|object| object["metadata"]["namespace"].to_string())
            .collect()
    };
    let models = elsewhere(api::list("predictormodels", None, "")?, None);
    let lists = elsewhere(api::list("services", None, "")?, Some("predictors"));
    ensure!(
        models.is_empty() && lists.is_empty(),
        "there are models in {models:?} and lists of models in {lists:?}"
    );
    Ok(())
}

/// Creates `ConfigMap`s that do not belong to Canopy in their own namespace, unless they exist.
fn config_maps() -> Result<()> {
    if kubectl(&["get", "namespace", STRANGERS, "--ignore-not-found", "--output", "name"])?.is_empty() {
        kubectl(&["create", "namespace", STRANGERS])?;
    }
    let there = api::names(&api::list("configmaps", Some(STRANGERS), "")?);
    let name = |number: usize| format!("s{number}");
    let missing: Vec<_> = (0..config_map_count()).filter(|&number| !there.contains(&name(number))).collect();
    let text = "x".repeat(CONFIG_MAP_BYTES);
    api::create_all(
        "configmaps",
        STRANGERS,
        &missing,
        |number| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(number)}, "data": {"text": text}}),
    )
}

/// Changes some models, each once the operator has acted on the one before; the times from each change to the write of its
/// new Deployment, in order. The times are those of the audit log.
async fn changes(namespace: &Namespace, count: usize) -> Result<Vec<Duration>> {
    let mark = Mark::now()?;
    let models: Vec<_> = (0..CHANGES).map(|i| format!("m{}", i * count / CHANGES)).collect();
    for model in &models {
        change(namespace, model, count).await?;
    }
    let mut acted = until("the changes in the audit log", SOON, async || {
        let log = mark.writes()?;
        models.iter().map(|model| reaction(&log, namespace, model)).collect::<Result<Vec<_>>>()
    })
    .await?;
    acted.sort();
    Ok(acted)
}

/// Changes a model, and returns when it has a new Deployment.
async fn change(namespace: &Namespace, model: &str, count: usize) -> Result<()> {
    let selector = format!("app.kubernetes.io/instance={model}");
    let deployments =
        || -> Result<Vec<String>> { Ok(api::names(&namespace.list("deployments", &selector)?)) };
    let before = deployments()?;
    // Another version for each number of models.
    namespace.patch("predictormodels", model, &json!({"spec": {"version": format!("{count}.0")}}))?;
    until(&format!("the change of {model} to reach its Deployment"), TIMEOUT, async || {
        let now = deployments()?;
        let is_new = now.iter().any(|name| !before.contains(name));
        ensure!(is_new, "expected another Deployment than {before:?}, got {now:?}");
        Ok(())
    })
    .await
}

/// The time from the change of a model to the operator's first write of its Deployment.
fn reaction(log: &[Value], namespace: &Namespace, model: &str) -> Result<Duration> {
    let time = |resource: &str, is_one: &dyn Fn(&Value, &str) -> bool| -> Result<Timestamp> {
        let write = log.iter().find(|write| {
            write["objectRef"]["namespace"] == *namespace.name
                && write["objectRef"]["resource"] == resource
                && write["objectRef"]["name"].as_str().is_some_and(|name| is_one(write, name))
        });
        let write = write.with_context(|| format!("there is no write of {resource} for {model}"))?;
        Ok(write["stageTimestamp"].as_str().context("a write has no time")?.parse()?)
    };
    let changed = time("predictormodels", &|write, name| name == model && !is_operators(write))?;
    let acted = time("deployments", &|write, name| {
        is_operators(write) && name.rsplit_once('-').is_some_and(|(of_model, _)| of_model == model)
    })?;
    Ok(Duration::try_from(acted.duration_since(changed))?)
}
