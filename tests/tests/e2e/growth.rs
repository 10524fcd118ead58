//! What it costs an operator to have ten times as many models, and again ten times.
//!
//! Comes in: models without pods, on a real API server. Goes out: how long a cold operator needs for all of them, what it
//! does and takes when idle, and how soon it acts on one change. Never: a clock of this machine where the API server's own log
//! has one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use canopy_tests::metrics::Scrape;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::slice::Slice;
use canopy_tests::wait::{pass, until};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::{is_operators, leads, writes};
use crate::canopy::{exclusive, leader, measurements, rolled_out, scale_operators, without_operators};
use crate::idle::{GONE_WITHIN, only_in};
use crate::model::{TIMEOUT, small};

/// How many models there are, and how many there are in turn where the slice `scale` runs.
const MODELS: &[usize] = &[100];
const MODELS_FULL: &[usize] = &[10, 100, 1000];
/// So many are applied at once.
const AT_ONCE: usize = 100;
const LIMIT: Duration = Duration::from_mins(5);
/// How long an operator is idle.
const IDLE: Duration = Duration::from_secs(20);
/// How many models are changed, one after the other.
const CHANGES: usize = 20;

/// What was to be reached.
const CPU_MAX: f64 = 0.01;
const BYTES_MAX: f64 = 64e6;
const ACTS_WITHIN: Duration = Duration::from_secs(1);

/// Models from one number to another.
fn apply(namespace: &Namespace, from: usize, to: usize) -> Result<()> {
    for first in (from..to).step_by(AT_ONCE) {
        let of = first..to.min(first + AT_ONCE);
        let items = of.map(|i| serde_json::from_str(&small(&format!("m{i}"), &json!({"replicas": 0}))));
        let items = items.collect::<Result<Vec<Value>, _>>()?;
        namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    }
    Ok(())
}

/// How many models have a status of their present spec.
fn reconciled(namespace: &Namespace) -> Result<usize> {
    let columns = "jsonpath={range .items[*]}{.metadata.generation}/{.status.observedGeneration}{'\\n'}{end}";
    let all = namespace.kubectl(&["get", "predictormodels", "--output", columns])?;
    Ok(all.lines().filter(|line| line.split_once('/').is_some_and(|(spec, status)| spec == status)).count())
}

/// What one operator with so many models was like.
#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
async fn measured(namespace: &Namespace, count: usize) -> Result<()> {
    let began = Instant::now();
    scale_operators(2)?;
    until("an operator", TIMEOUT, async || leader()).await?;
    let leading = began.elapsed();
    until("all models to be reconciled", LIMIT, async || {
        let done = reconciled(namespace)?;
        ensure!(done == count, "{done} of {count} are");
        Ok(())
    })
    .await?;
    let all = began.elapsed();
    rolled_out()?;
    let operator = leader()?;
    until("the models of earlier tests to be gone", GONE_WITHIN, async || only_in(namespace)).await?;
    quiet(namespace, &operator).await?;

    let usage = async || -> Result<(f64, f64)> {
        let scrape: Scrape = measurements(&operator).await?;
        Ok((scrape.sum("process_cpu_seconds_total", &[])?, scrape.sum("process_resident_memory_bytes", &[])?))
    };
    let (mark, before, since) = (writes()?.len(), usage().await?, Instant::now());
    pass(IDLE).await;
    let after = usage().await?;
    let cpu = (after.0 - before.0) / since.elapsed().as_secs_f64();
    let log = writes()?;
    let wrote = log.iter().skip(mark).filter(|write| leads(write).is_some());
    let wrote: Vec<_> = wrote.map(|write| format!("{} {}", write["verb"], write["objectRef"])).collect();
    let idle = wrote.len();
    let acted = changes(namespace, count).await?;
    let slowest = acted.iter().max().copied().unwrap_or_default();
    let median = acted[acted.len() / 2];
    println!(
        "figure: {count} models: an operator leads after {:.1} s, all reconciled after {:.1} s; idle: {idle} writes, {:.2} % of a processor, {:.1} MB; a change reaches its Deployment after {median:.0?} (median) and {slowest:.0?} (slowest of {CHANGES})",
        leading.as_secs_f64(),
        all.as_secs_f64(),
        cpu * 100.0,
        after.1 / 1e6
    );
    ensure!(idle == 0, "an idle operator wrote {wrote:?}");
    ensure!(cpu < CPU_MAX, "an idle operator took {cpu} of a processor");
    ensure!(after.1 < BYTES_MAX, "an operator takes {} bytes", after.1);
    ensure!(slowest < ACTS_WITHIN, "an operator acted only after {slowest:?}");
    Ok(())
}

/// Returns when the operators have written nothing for a while, and nothing has come to `leader` that it had to look at:
/// Kubernetes' own controllers take their time for a thousand Deployments.
async fn quiet(namespace: &Namespace, leader: &str) -> Result<()> {
    let mut last = (0, 0);
    until("the operators to be done", LIMIT, async || {
        let writes = writes()?
            .iter()
            .filter(|write| is_operators(write) && write["objectRef"]["resource"] != "leases")
            .count();
        let passes = measurements(leader).await?.count("canopy_operator_reconciles_total", &[])?;
        let before = std::mem::replace(&mut last, (writes, passes));
        pass(Duration::from_secs(3)).await;
        ensure!(before == last, "from {before:?} to {last:?} writes and passes, in {}", namespace.name);
        Ok(())
    })
    .await
}

/// Changes some models one after the other; how long after each change its new Deployment was written.
async fn changes(namespace: &Namespace, count: usize) -> Result<Vec<Duration>> {
    let mark = writes()?.len();
    let names: Vec<_> =
        (0..CHANGES.min(count)).map(|i| format!("m{}", i * count / CHANGES.min(count))).collect();
    for name in &names {
        // Another one each time.
        let patch = json!({"spec": {"version": format!("{count}.0")}}).to_string();
        namespace.kubectl(&["patch", "predictormodel", name, "--type", "merge", "--patch", &patch])?;
    }
    let acted = until("all changes to reach their Deployments", TIMEOUT, async || {
        let log = writes()?;
        let (mut asked, mut acted) = (BTreeMap::new(), Vec::new());
        for write in log.iter().skip(mark).filter(|write| write["objectRef"]["namespace"] == *namespace.name)
        {
            let (kind, name) = (&write["objectRef"]["resource"], write["objectRef"]["name"].as_str());
            let at: Timestamp = write["stageTimestamp"].as_str().context("a write has a time")?.parse()?;
            let name = name.unwrap_or_default();
            if kind == "predictormodels" && !is_operators(write) {
                asked.insert(name.to_owned(), at);
            } else if kind == "deployments"
                && let Some(since) = name.rsplit_once('-').and_then(|(model, _)| asked.remove(model))
            {
                acted.push(Duration::try_from(at.duration_since(since))?);
            }
        }
        ensure!(acted.len() == names.len(), "{} of {} have", acted.len(), names.len());
        Ok(acted)
    });
    let mut acted = acted.await?;
    acted.sort();
    Ok(acted)
}

#[tokio::test]
async fn an_operator_grows_slowly_with_its_models_and_does_nothing_when_idle() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-growth", async |namespace| {
        let stages = if Slice::Scale.runs() { MODELS_FULL } else { MODELS };
        let mut there = 0;
        for &count in stages {
            without_operators().await?;
            let outcome = match apply(namespace, there, count) {
                Ok(()) => measured(namespace, count).await,
                Err(error) => Err(error),
            };
            scale_operators(2)?;
            rolled_out()?;
            outcome?;
            there = count;
        }
        Ok(())
    })
    .await
}
