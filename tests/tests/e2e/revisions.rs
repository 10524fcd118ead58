//! A change of revision: the old one serves until all pods of the new one are ready, and stays for a while afterwards.
//!
//! The order is that of the API server's events, while both gateways get requests without a pause.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::forward::Forward;
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::canopy::{gateways, shared};
use crate::model::{Model, REVISION, State, TIMEOUT, condition_of, config_map, revision, small};
use crate::steady_client::SteadyClient;
use crate::watch::{Event, Watch};

const RETIRE_SECONDS: i64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_spec_becomes_a_new_revision_and_no_request_fails_meanwhile() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-spec", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 2, "retireSeconds": RETIRE_SECONDS})))?;
        let tiny = Model { namespace, name: "tiny" };
        let change = || {
            tiny.patch(&json!({"version": "2.0", "train": {"algorithm": {"randomForest": {"trees": 12}}}}))
        };
        let gateways = change_revision(&tiny, &[1.0; 4], change).await?;
        for gateway in &gateways {
            let (answer, _) = tiny.predict(gateway, &[1.0; 4]).await?;
            ensure!(answer["version"] == "2.0", "{answer}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_config_map_becomes_a_new_revision_and_no_request_fails_meanwhile() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-data", async |namespace| {
        namespace.apply(&config_map("rows", "rows.csv", &csv(60)))?;
        namespace.apply(&small("tiny", &json!({
            "replicas": 2, "retireSeconds": RETIRE_SECONDS,
            "train": {"data": {"synthetic": null, "csv": {"source": {"configMap": {"name": "rows", "key": "rows.csv"}}, "target": "y"}}},
        })))?;
        let tiny = Model { namespace, name: "tiny" };
        let change = || namespace.apply(&config_map("rows", "rows.csv", &csv(80))).map(drop);
        change_revision(&tiny, &[1.0, 0.0], change).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn an_old_pod_that_is_killed_after_a_refused_edit_comes_back_with_the_same_model() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-refused", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        let before = tiny.ready()?;
        let (old, digest) = (revision(&before)?, before["status"]["artifact"]["sha256"].clone());

        tiny.patch(&json!({"version": "2.0", "train": {"gate": {"metric": "Accuracy", "min": "1.0"}}}))?;
        let message = tiny.condition_with("Ready", "False", "GateMissed", &["below the minimum 1"]).await?;
        tiny.has_event("GateMissed", &message).await?;
        tiny.condition("Available", "True", "Serving").await?;
        let refused = tiny.read()?["status"]["refused"].clone();
        ensure!(refused["reason"] == "GateMissed" && refused["revision"] != *old, "{refused}");

        let killed = tiny.pods(&old)?.into_iter().next().context("the old revision has a pod")?;
        namespace.kubectl(&["delete", "pod", &killed.0, "--grace-period", "0", "--force"])?;
        let back = until("a pod in its place", TIMEOUT, async || {
            let pods = tiny.pods(&old)?;
            let back = pods.iter().find(|(_, pod)| pod.uid != killed.1.uid && pod.is_ready);
            Ok(back.with_context(|| format!("there are only {pods:?}"))?.0.clone())
        })
        .await?;
        let described = Forward::open(&namespace.name, &back, 8001).await?.get("/model").await?.json()?;
        ensure!(
            described["revision"] == *old && described["digest"] == digest,
            "{described} instead of {digest}"
        );
        for gateway in gateways().await? {
            let reply = tiny.predict_until(&gateway, &[1.0; 4], "a prediction", |r| r.status == 200).await?;
            ensure!(
                reply.header("canopy-revision") == old && reply.json()?["version"] == "1.0",
                "{}",
                reply.text
            );
        }
        Ok(())
    })
    .await
}

/// Makes a change while both gateways get requests, and checks the order of its steps.
async fn change_revision(
    model: &Model<'_>,
    features: &[f64],
    change: impl FnOnce() -> Result<()>,
) -> Result<Vec<Forward>> {
    let before = model.ready()?;
    let old = revision(&before)?;
    let (old_pods, gateways) = (model.pods(&old)?, gateways().await?);
    ensure!(old_pods.len() == 2, "the old revision has {old_pods:?}");
    for gateway in &gateways {
        model.predict_until(gateway, features, "a prediction", |r| r.status == 200).await?;
    }
    let deployments = Watch::start(model.namespace, "deployments").await?;
    let services = Watch::start(model.namespace, "services").await?;
    let pod_events = Watch::start(model.namespace, "pods").await?;

    let client = SteadyClient::start(gateways, model.full_name(), features.to_vec());
    change()?;
    let after = until("a new revision", TIMEOUT, async || {
        let after = model.read()?;
        let new = revision(&after)?;
        let ready = condition_of(&after, "Ready")?;
        ensure!(new != old && ready["status"] == "True", "{new} after {old} is {ready}");
        Ok(new)
    })
    .await?;
    until("the end of the old revision", TIMEOUT, async || {
        let left = model.namespace.names("deployments")?;
        ensure!(
            left.iter().all(|name| !name.contains(&old)),
            "expected no Deployment of {old}, got {left:?}"
        );
        Ok(())
    })
    .await?;
    let (gateways, heard) = client.stop().await?;
    for (gateway, revisions) in &heard {
        ensure!(
            *revisions == [old.clone(), after.clone()],
            "{gateway} answered with the revisions {revisions:?} in turn"
        );
    }

    let watches = Watches { deployments, services };
    let since = switched(model, &old, &after, &watches).await?;
    old_pods_stayed(&old_pods, &pod_events, since).await?;
    Ok(gateways)
}

/// The watches of the objects that a switch changes.
struct Watches {
    deployments: Watch,
    services: Watch,
}

/// Checks that the Services were switched once, after all new pods were ready; returns the time of retirement.
async fn switched(model: &Model<'_>, old: &str, after: &str, of: &Watches) -> Result<Timestamp> {
    let (old_name, new_name) = (format!("{}-{old}", model.name), format!("{}-{after}", model.name));
    let all_ready =
        first(&of.deployments, &new_name, |event| event.object["status"]["readyReplicas"] == 2).await?;
    let old_gone = first(&of.deployments, &old_name, |event| event.kind == "DELETED").await?;
    ensure!(
        all_ready.version()? < old_gone.version()?,
        "the old Deployment was deleted before the new one was ready"
    );
    let mut switched_at = None;
    for service in [model.name.to_owned(), format!("{}-pods", model.name)] {
        let is_switched = |event: &Event| event.object["spec"]["selector"][REVISION] == after;
        let switch = first(&of.services, &service, is_switched).await?;
        let events = of.services.events_of(&service)?;
        let mut selected: Vec<_> =
            events.iter().map(|event| event.object["spec"]["selector"][REVISION].clone()).collect();
        selected.dedup();
        ensure!(selected == [json!(old), json!(after)], "Service {service} selected {selected:?} in turn");
        ensure!(
            all_ready.version()? < switch.version()?,
            "Service {service} was switched before all new pods were ready"
        );
        let stamp = switch.object["metadata"]["annotations"]["canopy.rs/retired"].as_str().map(str::to_owned);
        switched_at = switched_at.or(stamp);
    }
    let stamp = switched_at.context("no Service has the time at which the old revision was retired")?;
    Ok(stamp.split_once('=').map_or(stamp.as_str(), |(_, time)| time).parse()?)
}

/// Checks that the old pods were not deleted before their time was up.
async fn old_pods_stayed(
    old_pods: &BTreeMap<String, State>,
    pod_events: &Watch,
    since: Timestamp,
) -> Result<()> {
    for (name, State { uid, .. }) in old_pods {
        let is_going = |event: &Event| !event.object["metadata"]["deletionTimestamp"].is_null();
        let going = first(pod_events, name, is_going).await?;
        let events = pod_events.events_of(name)?;
        ensure!(
            events.iter().all(|event| event.object["metadata"]["uid"] == **uid),
            "pod {name} was replaced"
        );
        let metadata = &going.object["metadata"];
        let at: Timestamp = metadata["deletionTimestamp"].as_str().unwrap_or_default().parse()?;
        let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        let deleted = at - SignedDuration::from_secs(grace);
        // The API server stores whole seconds.
        let earliest = since + SignedDuration::from_secs(RETIRE_SECONDS - 1);
        ensure!(
            deleted >= earliest,
            "pod {name} was deleted at {deleted}, expected {earliest} or later: the revision was retired at {since}"
        );
    }
    Ok(())
}

/// The first event of an object that `is` accepts. It waits, because a watch is a moment late, and the garbage collector acts a
/// moment after the operator.
async fn first(watch: &Watch, name: &str, is: impl Fn(&Event) -> bool) -> Result<Event> {
    until(&format!("an event of {name}"), TIMEOUT, async || {
        let events = watch.events_of(name)?;
        let count = events.len();
        events.into_iter().find(&is).with_context(|| format!("none of {count} events is the expected one"))
    })
    .await
}

/// Rows whose class depends on the sign of the first of two columns.
fn csv(rows: usize) -> String {
    let row = |i: usize| {
        let (a, y) = if i.is_multiple_of(2) { (-1, "no") } else { (1, "yes") };
        format!("{a}.{i},{}.5,{y}", i % 7)
    };
    let lines: Vec<_> = ["a,b,y".to_owned()].into_iter().chain((0..rows).map(row)).collect();
    lines.join("\n")
}
