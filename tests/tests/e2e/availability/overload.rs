//! Five times as many requests as a model can answer: the number of answers stays, the other requests get 503 at once, and
//! afterwards all requests are answered again.

use std::time::Duration;

use anyhow::{Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::load::{Load, PHASE_MIN, Plan};
use canopy_tests::namespace::in_namespace;
use canopy_tests::report::{Report, Sent};
use canopy_tests::wait::until;
use serde_json::json;

use super::Scene;
use crate::canopy::exclusive;
use crate::model::{TIMEOUT, revision};

/// Rows per request. With the trees of the model this is more than one worker computes by itself.
const ROWS: usize = 600;
const TREES: u32 = 500;
const TIMES: f64 = 5.0;
/// The least share of the capacity that is answered under overload.
const GOODPUT_MIN: f64 = 0.9;
/// How often capacity and flood are measured at most.
const ROUNDS_MAX: u32 = 5;
/// The number of requests by which the capacity is measured. It is large because CPU limits are enforced in periods of 100 ms.
const CAPACITY_BY: usize = 500;
/// The least number of requests of a flood.
const FLOOD: usize = 2 * PHASE_MIN;
/// The time in which 99 of 100 answers arrive during the flood. Afterwards each arrives in half of it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The longest time after the flood until all requests are answered again.
const NORMAL_WITHIN: Duration = Duration::from_secs(5);

fn is_answered(sent: &Sent) -> bool {
    matches!(&sent.outcome, Ok(answer) if answer.status == 200)
}

/// Answers per second.
fn rate(sent: &[Sent]) -> f64 {
    let first = sent.iter().map(|sent| sent.began).min().unwrap_or_default();
    let last = sent.iter().map(|sent| sent.due + sent.took).max().unwrap_or_default();
    let answered = sent.iter().filter(|sent| is_answered(sent)).count();
    answered as f64 / last.saturating_sub(first).as_secs_f64()
}

/// Requests of many rows at a rate.
fn plan(scene: &Scene<'_>, per_second: f64, connections: usize) -> Result<Plan> {
    Ok(Plan {
        address: scene.gateways.address,
        path: "/api/models/tiny/predict".to_owned(),
        bodies: vec![(json!({"instances": vec![[1.0; 4]; ROWS]}).to_string(), 1)],
        per_second: format!("{per_second:.0}").parse()?,
        connections,
    })
}

async fn has_sent(load: &Load, least: usize) -> Result<()> {
    until("requests", TIMEOUT, async || {
        let count = load.count();
        ensure!(count >= least, "expected {least} requests, got {count}");
        Ok(())
    })
    .await
}

/// The requests per second that the model can answer: it gets more than that, on as many connections as keep both pods busy without
/// a queue.
async fn capacity(scene: &Scene<'_>) -> Result<f64> {
    let load = Load::start(plan(scene, 2000.0, 8)?)?;
    has_sent(&load, CAPACITY_BY).await?;
    let report = load.stop().await;
    ensure!(report.sent.iter().all(is_answered), "without overload some failed:\n{report}");
    Ok(rate(&report.sent))
}

/// Checks the answers and refusals of a flood. Returns the answers per second.
#[expect(clippy::print_stdout, reason = "people read the figures")]
fn judge(report: &Report, capacity: f64) -> Result<f64> {
    let goodput = rate(&report.sent);
    let (mut good, refused): (Vec<_>, Vec<_>) = report.sent.iter().partition(|sent| is_answered(sent));
    ensure!(!good.is_empty(), "none of {} was answered", report.sent.len());
    good.sort_by_key(|sent| sent.took);
    let p99 = good[(good.len() - 1) * 99 / 100].took;
    let slowest = refused.iter().map(|sent| sent.took).max().unwrap_or_default();
    println!(
        "overload: {capacity:.1} requests/s can be answered; of {TIMES} times as many {goodput:.1} a second were ({:.0} %), p99 {p99:.2?}; {} of {} were refused, the last of them after {slowest:.2?}",
        100.0 * goodput / capacity,
        refused.len(),
        report.sent.len()
    );
    for sent in refused {
        let is_overloaded = |text: &str| text.contains("\"overloaded\"");
        let is_refusal =
            matches!(&sent.outcome, Ok(answer) if answer.status == 503 && is_overloaded(&answer.text));
        ensure!(is_refusal, "{sent:?}");
    }
    ensure!(p99 <= ANSWERED_WITHIN, "1 of 100 answers took {p99:?}");
    Ok(goodput)
}

/// Five times as many requests as the model can answer. Returns the answers per second.
async fn flood(scene: &Scene<'_>, capacity: f64) -> Result<f64> {
    let serving = revision(&scene.model.read()?)?;
    let load = Load::start(plan(scene, capacity * TIMES, 400)?)?;
    for (pod, _) in scene.model.pods(&serving)? {
        let live = Forward::open(&scene.model.namespace.name, &pod, 9001).await?.get("/live").await?;
        ensure!(live.status == 200, "the admin port of {pod} answers {}", live.status);
    }
    has_sent(&load, FLOOD).await?;
    judge(&load.stop().await, capacity)
}

/// Returns when requests at half of the capacity are answered soon, and fails if a later one is not answered.
async fn is_calm(scene: &Scene<'_>, capacity: f64) -> Result<()> {
    let mut load = Load::start(plan(scene, capacity / 2.0, 16)?)?;
    until("calm", NORMAL_WITHIN, async || {
        let sent = load.so_far();
        let recent = &sent[sent.len().saturating_sub(10)..];
        let are_soon = recent.iter().all(|sent| is_answered(sent) && sent.took < ANSWERED_WITHIN / 2);
        ensure!(recent.len() == 10 && are_soon, "{recent:?}");
        Ok(())
    })
    .await?;
    load.phase("after the flood");
    has_sent(&load, 100).await?;
    let report = load.stop().await;
    let failed = report.sent.iter().filter(|sent| sent.phase == 1 && !is_answered(sent)).count();
    ensure!(failed == 0, "{failed} failed\n{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_as_many_requests_as_can_be_answered_leave_what_can() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-overload", async |namespace| {
        // A small CPU limit, so that one test can send too many requests.
        let spec = json!({
            "replicas": 2,
            "resources": {"limits": {"cpu": "200m"}},
            "train": {"algorithm": {"randomForest": {"trees": TREES}}},
        });
        let scene = Scene::new(namespace, &spec, &[]).await?;
        // CPU limits let through a tenth more or less from one measurement to the next, so a low share is measured again.
        let (mut possible, mut answered, mut rounds) = (0.0, 0.0, 0);
        while rounds == 0 || rounds < ROUNDS_MAX && answered < GOODPUT_MIN * possible {
            let capacity = capacity(&scene).await?;
            answered += flood(&scene, capacity).await?;
            possible += capacity;
            rounds += 1;
        }
        ensure!(
            answered >= GOODPUT_MIN * possible,
            "{:.0} % of the capacity was answered, the mean of {rounds} floods",
            100.0 * answered / possible
        );
        is_calm(&scene, possible / f64::from(rounds)).await
    })
    .await
}
