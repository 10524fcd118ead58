//! Changes of a model: in quick succession, in the wrong order by hand, and to another number of features.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::load::{Load, Plan};
use canopy_tests::namespace::in_namespace;
use canopy_tests::report::{Answer, Expected, Failure, LATEST, Report, Sent};
use canopy_tests::wait::until;
use serde_json::json;

use super::{ROWS, Scene};
use crate::canopy::under_load;
use crate::model::{Model, REVISION, TIMEOUT, condition_of, revision};

/// Changes the number of trees, which makes another revision.
pub(super) fn grow(model: &Model<'_>, trees: u32) -> Result<()> {
    model.patch(&json!({"train": {"algorithm": {"randomForest": {"trees": trees}}}}))
}

/// Returns when the current spec serves and the Deployment of the revision `old` is deleted.
pub(super) async fn replaced(model: &Model<'_>, old: &str) -> Result<String> {
    until(&format!("another revision than {old}"), TIMEOUT, async || {
        let now = model.read()?;
        let (serving, ready) = (revision(&now)?, condition_of(&now, "Ready")?);
        let is_current = ready["observedGeneration"] == now["metadata"]["generation"];
        ensure!(serving != old && is_current && ready["status"] == "True", "{serving} is {ready}");
        let left = model.namespace.names("deployments")?;
        ensure!(left.iter().all(|name| !name.contains(old)), "expected no Deployment of {old}, got {left:?}");
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
                    observed(&scene.model).await?;
                }
                replaced(&scene.model, &old).await
            })
            .await?;
        load.calm("after").await?;
        let report = load.stop().await;
        let last = report
            .sent
            .last()
            .and_then(|sent| sent.outcome.as_ref().ok())
            .context("the last request has no answer")?;
        ensure!(last.revision == new, "{last:?} is not of {new}");
        report.all_answered("three changes in quick succession")
    })
    .await
}

/// Returns when the operator has observed the current spec.
async fn observed(model: &Model<'_>) -> Result<()> {
    until("the operator to see a change", TIMEOUT, async || {
        let now = model.read()?;
        let (seen, present) = (&now["status"]["observedGeneration"], &now["metadata"]["generation"]);
        ensure!(seen == present, "it has seen {seen} of {present}");
        Ok(())
    })
    .await
}

/// The requests that must fail in the control. They fail once the old pods have drained and gateways no longer use pods that
/// vanished from DNS.
const FAILURES_MIN: usize = 100;

/// New pods that never become ready, in the operator's order and with the Services switched first: only the order differs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_without_ready_pods_gets_no_requests_but_services_that_are_switched_first_fail_requests()
-> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-order", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let serving = revision(&scene.model.read()?)?;
        let old = format!("tiny-{serving}");
        let mut load = scene.load().await?;
        // No node has this label.
        let unschedulable = json!({"version": "2.0", "scheduling": {"nodeSelector": {"e2e": "none"}}});
        let waits = async {
            scene.model.patch(&unschedulable)?;
            observed(&scene.model).await?;
            until("a Deployment of the new revision", TIMEOUT, async || {
                let names = namespace.names("deployments")?;
                let new =
                    names.iter().filter(|name| **name != old).find_map(|name| name.strip_prefix("tiny-"));
                Ok(new
                    .with_context(|| format!("expected another Deployment than {old}, got {names:?}"))?
                    .to_owned())
            })
            .await
        };
        let new = load.during("the operator waits for ready pods", waits).await?;
        let now = scene.model.read()?;
        ensure!(revision(&now)? == serving, "expected revision {serving} to serve, got {}", now["status"]);

        load.phase("Services switched first");
        scene.model.patch(&json!({"paused": true}))?;
        observed(&scene.model).await?;
        for service in ["tiny", "tiny-pods"] {
            namespace.patch("services", service, &json!({"spec": {"selector": {REVISION: new}}}))?;
        }
        namespace.patch("deployments", &old, &json!({"spec": {"replicas": 0}}))?;
        load.fails(Failure::Status(503), FAILURES_MIN).await?;
        load.stop().await.failed_as_expected(
            "control: Services switched before the new pods are ready",
            &[Expected {
                phase: "Services switched first",
                kinds: &[Failure::Status(503), Failure::Status(504), Failure::Late],
                at_least: FAILURES_MIN,
            }],
        )
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_change_of_the_number_of_features_each_gateway_switches_once() -> Result<()> {
    let _lock = under_load().await?;
    in_namespace("e2e-shape", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let addresses = scene.gateways.each("tiny", ROWS[0].0).await?;
        for (from, to) in [(4, 5), (5, 4)] {
            let old = revision(&scene.model.read()?)?;
            // The class depends on the first two features only.
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
                load.phase_is_long_enough().await?;
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

/// The number of features of the model that answered; an error if the response is neither a prediction nor a 422.
fn features_of(sent: &Sent, answer: &Answer) -> Result<usize> {
    let (own, other) = if sent.body == 0 { (4, 5) } else { (5, 4) };
    match (answer.status, answer.class) {
        (200, Some(1)) => Ok(own),
        (422, None) => Ok(other),
        _ => anyhow::bail!("{sent:?}"),
    }
}

/// Fails unless every row was answered by the old or the new model, and no request that was sent after the first response of the
/// new model was answered by the old one.
#[expect(clippy::print_stdout, reason = "people read the figures")]
fn changed_once(report: &Report, from: usize, to: usize) -> Result<()> {
    let (mut first_new, mut last_old, mut worst) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
    for sent in &report.sent {
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
        report.sent.len()
    );
    ensure!(worst <= LATEST, "an answer took {worst:?}");
    ensure!(first_new < Duration::MAX && last_old <= first_new, "the old model answered after the new one");
    Ok(())
}
