//! Changes of a model, one by one and in quick succession, and one after which it takes other rows.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::load::{Answer, Load, Plan, Report, Sent};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::{ROWS, Scene};
use crate::canopy::under_load;
use crate::model::{Model, TIMEOUT, condition_of, revision};

/// Changes the number of trees, which is another revision.
pub(super) fn grow(model: &Model<'_>, trees: u32) -> Result<()> {
    model.patch(&json!({"train": {"algorithm": {"randomForest": {"trees": trees}}}}))
}

/// Returns when the present spec serves and nothing is left of the revision `old`.
pub(super) async fn replaced(model: &Model<'_>, old: &str) -> Result<String> {
    until(&format!("another revision than {old}"), TIMEOUT, async || {
        let now = model.read()?;
        let (serving, ready) = (revision(&now)?, condition_of(&now, "Ready")?);
        let is_current = ready["observedGeneration"] == now["metadata"]["generation"];
        ensure!(serving != old && is_current && ready["status"] == "True", "{serving} is {ready}");
        let left = model.namespace.kubectl(&["get", "deployments", "--output", "name"])?;
        ensure!(!left.contains(old), "there is still {left}");
        Ok(serving)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_changes_in_quick_succession_fail_no_request() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-quick", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let old = revision(&scene.model.read()?)?;
        let mut load = scene.load().await?;
        let new = load
            .during("three changes", async {
                for trees in [11, 12, 13] {
                    grow(&scene.model, trees)?;
                    taken_up(&scene.model).await?;
                }
                replaced(&scene.model, &old).await
            })
            .await?;
        load.calm("after").await?;
        let told = load.stop().await;
        let last =
            told.sent.last().and_then(|sent| sent.outcome.as_ref().ok()).context("nothing was sent")?;
        ensure!(last.revision == new, "{last:?} is not of {new}");
        told.all_answered("three changes in quick succession")
    })
    .await
}

/// Returns when the operator has taken up the present spec: a change that it never saw would be none.
async fn taken_up(model: &Model<'_>) -> Result<()> {
    until("the operator to see a change", TIMEOUT, async || {
        let now = model.read()?;
        let (seen, present) = (&now["status"]["observedGeneration"], &now["metadata"]["generation"]);
        ensure!(seen == present, "it has seen {seen} of {present}");
        Ok(())
    })
    .await
}

/// Pods that go accept requests for 15 s, and gateways use those that vanished for as long.
const FAREWELL: Duration = Duration::from_secs(25);

/// What the order of the operator is good for: here Services are switched by hand, before the pods of the new revision
/// are ready, and the old ones go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_switched_before_pods_are_ready_fail_requests() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-order-off", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let old = format!("tiny-{}", revision(&scene.model.read()?)?);
        let mut load = scene.load().await?;
        let switched = async {
            scene.model.patch(&json!({"paused": true}))?;
            taken_up(&scene.model).await?;
            let selector = json!({"spec": {"selector": {"canopy.rs/revision": "00000000"}}}).to_string();
            for service in ["tiny", "tiny-pods"] {
                namespace.kubectl(&["patch", "service", service, "--type", "merge", "--patch", &selector])?;
            }
            namespace.kubectl(&["scale", "deployment", &old, "--replicas", "0"])?;
            pass(FAREWELL).await;
            Ok(())
        };
        load.during("switched too early", switched).await?;
        load.stop().await.some_failed("control: Services switched before pods are ready")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_comes_to_take_other_rows_takes_one_kind_at_a_time_and_each_gateway_changes_once()
-> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-shape", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let addresses = scene.gateways.each("tiny", ROWS[0].0).await?;
        for (from, to) in [(4, 5), (5, 4)] {
            let old = revision(&scene.model.read()?)?;
            // The class is known of the first four features alone.
            let rows: [(&[f64], u64); 2] = [(&[1.0; 4], 1), (&[1.0, 1.0, 1.0, 1.0, 1.0], 1)];
            let plan =
                |&address| Load::start(Plan { per_second: 150, ..Plan::predictions(address, "tiny", &rows) });
            let mut loads = addresses.iter().map(plan).collect::<Result<Vec<_>>>()?;
            for load in &mut loads {
                load.calm("before").await?;
            }
            for load in &mut loads {
                load.phase("other rows");
            }
            scene.model.patch(&json!({"train": {"data": {"synthetic": {"features": to}}}}))?;
            replaced(&scene.model, &old).await?;
            for load in &mut loads {
                load.goes_on().await?;
                load.calm("after").await?;
            }
            for load in loads {
                changed_once(&load.stop().await, from, to)?;
            }
        }
        Ok(())
    })
    .await
}

/// Which number of features an answer is of, or why it is not one that may be.
fn features_of(sent: &Sent, answer: &Answer) -> Result<usize> {
    let (own, other) = if sent.body == 0 { (4, 5) } else { (5, 4) };
    match (answer.status, answer.class) {
        (200, Some(1)) => Ok(own),
        (422, None) => Ok(other),
        _ => anyhow::bail!("{sent:?}"),
    }
}

/// Fails unless every row was answered by a model of one of both kinds, and after the first answer of the new kind
/// no request that was sent later was answered by the old.
#[expect(clippy::print_stdout, reason = "a case tells what it saw")]
fn changed_once(told: &Report, from: usize, to: usize) -> Result<()> {
    let (mut first_new, mut last_old, mut worst) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
    for sent in &told.sent {
        let answer = sent.outcome.as_ref().map_err(|why| anyhow::anyhow!("{why}: {sent:?}"))?;
        let features = features_of(sent, answer)?;
        worst = worst.max(sent.took);
        if features == to {
            first_new = first_new.min(sent.due + sent.took);
        } else {
            ensure!(features == from, "{sent:?}");
            last_old = last_old.max(sent.began);
        }
    }
    println!(
        "from {from} to {to} features: {} sent, 0 failed, worst {worst:.1?}; first of the new {first_new:.2?}, last of the old sent at {last_old:.2?}",
        told.sent.len()
    );
    ensure!(worst <= canopy_tests::load::LATEST, "an answer took {worst:?}");
    ensure!(first_new < Duration::MAX && last_old <= first_new, "the old kind answered after the new");
    Ok(())
}
