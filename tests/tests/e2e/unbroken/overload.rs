//! Five times as many requests as a model can answer: those that can be answered in time are, the others are told at
//! once, and afterwards all is as before.

use std::time::Duration;

use anyhow::{Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::load::{LATEST, Load, PHASE_MIN, Plan, Sent};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use super::Scene;
use crate::canopy::alone;
use crate::model::{PATIENCE, revision};

/// How many rows a request has: with the trees of the model it is more than a worker does by itself.
const ROWS: usize = 600;
const TREES: u32 = 500;
const TIMES: f64 = 5.0;
/// Of what is answered without overload, so much is answered with it.
const GOODPUT_MIN: f64 = 0.9;
/// How long after the flood all is as before.
const NORMAL_WITHIN: Duration = Duration::from_secs(5);

/// The answers of a phase, and how many there were a second.
fn answered(sent: &[Sent], phase: usize) -> (Vec<&Sent>, f64) {
    let of_phase = || sent.iter().filter(|sent| sent.phase == phase);
    let answered: Vec<_> =
        of_phase().filter(|sent| matches!(&sent.outcome, Ok(a) if a.status == 200)).collect();
    let first = of_phase().map(|sent| sent.began).min().unwrap_or_default();
    let last = of_phase().map(|sent| sent.due + sent.took).max().unwrap_or_default();
    let rate = answered.len() as f64 / (last - first).as_secs_f64();
    (answered, rate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "a case tells what it saw")]
async fn five_times_as_many_requests_as_can_be_answered_leave_what_can() -> Result<()> {
    let _turn = alone().await?;
    in_namespace("e2e-overload", async |namespace| {
        // Little of a processor, so that the requests of one test are too many.
        let spec = json!({
            "replicas": 2,
            "resources": {"limits": {"cpu": "200m"}},
            "train": {"algorithm": {"randomForest": {"trees": TREES}}},
        });
        let scene = Scene::new(namespace, &spec, &[]).await?;
        let serving = revision(&scene.model.read()?)?;
        let body = json!({"instances": vec![[1.0; 4]; ROWS]}).to_string();
        let plan = |per_second: f64, connections| Plan {
            address: scene.front.address,
            path: "/api/models/tiny/predict".to_owned(),
            bodies: vec![(body.clone(), 1)],
            per_second: per_second as u32,
            connections,
        };

        // As fast as they are answered, by as many as keep both pods busy and do not wait for each other.
        let load = Load::start(plan(2000.0, 8))?;
        let told = until("some answers", PATIENCE, async || {
            let sent = load.so_far();
            ensure!(sent.len() >= 150, "there are {}", sent.len());
            Ok(())
        });
        told.await?;
        let told = load.stop().await;
        let (all, capacity) = answered(&told.sent, 0);
        ensure!(all.len() == told.sent.len(), "without overload {} of {} failed", told.sent.len() - all.len(), told.sent.len());

        let mut load = Load::start(plan(capacity * TIMES, 600))?;
        load.phase("overload");
        let mut admins = Vec::new();
        for (pod, _) in scene.model.pods(&serving)? {
            admins.push(Forward::open(&namespace.name, &pod, 9001).await?);
        }
        until("the flood to have its requests", PATIENCE, async || {
            for admin in &admins {
                let live = admin.get("/live").await?;
                ensure!(live.status == 200, "{} answers {}", admin.pod, live.status);
            }
            let count = load.so_far().len();
            ensure!(count >= PHASE_MIN.max((capacity * TIMES * 15.0) as usize), "there are {count}");
            Ok(())
        })
        .await?;
        let told = load.stop().await;
        let (mut good, goodput) = answered(&told.sent, 1);
        good.sort_by_key(|sent| sent.took);
        let p99 = good[(good.len() - 1) * 99 / 100].took;
        let refused: Vec<_> = told.sent.iter().filter(|sent| !matches!(&sent.outcome, Ok(a) if a.status == 200)).collect();
        let slowest = refused.iter().map(|sent| sent.took).max().unwrap_or_default();
        println!(
            "overload: {capacity:.1} requests/s can be answered; of {:.1} a second {goodput:.1} were ({:.0} %), p99 {p99:.2?}; {} of {} were refused, the last of them after {slowest:.2?}",
            capacity * TIMES, 100.0 * goodput / capacity, refused.len(), told.sent.len()
        );
        for sent in &refused {
            let is_told = matches!(&sent.outcome, Ok(answer) if answer.status == 503 && answer.text.contains("\"overloaded\""));
            ensure!(is_told, "{sent:?}");
        }
        ensure!(goodput >= GOODPUT_MIN * capacity, "only {goodput:.1} of {capacity:.1} requests a second were answered");
        ensure!(p99 <= LATEST, "1 of 100 answers took {p99:?}");

        // Half of what it can do.
        let mut load = Load::start(plan(capacity / 2.0, 32))?;
        until("calm", NORMAL_WITHIN, async || {
            let recent = load.so_far();
            let recent = &recent[recent.len().saturating_sub(20)..];
            let are_good = recent.iter().all(|sent| matches!(&sent.outcome, Ok(a) if a.status == 200 && sent.took < LATEST / 4));
            ensure!(recent.len() == 20 && are_good, "{recent:?}");
            Ok(())
        })
        .await?;
        load.calm("after").await?;
        let told = load.stop().await;
        print!("after the flood\n{told}");
        let failed = told.sent.iter().filter(|sent| sent.phase == 1 && !matches!(&sent.outcome, Ok(a) if a.status == 200)).count();
        ensure!(failed == 0, "{failed} failed");
        Ok(())
    })
    .await
}
