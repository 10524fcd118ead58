//! Models with one fault each: a condition and an Event name the reason and the object, and a revision that serves continues.

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::forward::Forward;
use canopy_tests::namespace::in_namespace;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::canopy::{gateways, shared};
use crate::files;
use crate::model::{Model, config_map, revision, small};

/// The namespace of the file server.
const FILES: &str = "e2e-files";

pub(crate) const ROWS: &str =
    "a,b,y\n-1,0,no\n-2,1,no\n-3,0,no\n-1,2,no\n-2,0,no\n1,0,yes\n2,1,yes\n3,0,yes\n1,2,yes\n2,0,yes\n";

#[tokio::test]
async fn a_model_that_misses_its_gate_never_serves_and_reports_by_how_much() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-gate", async |namespace| {
        namespace.apply(&small("tiny", &json!({"train": {"gate": {"metric": "Accuracy", "min": "1.0"}}})))?;
        let tiny = Model { namespace, name: "tiny" };
        let message = tiny.condition_with("Ready", "False", "GateMissed", &["below the minimum 1"]).await?;
        tiny.condition("Available", "False", "GateMissed").await?;
        tiny.condition("Prepared", "False", "GateMissed").await?;
        tiny.has_event("GateMissed", &message).await?;
        let pods =
            namespace.kubectl(&["get", "deployments", "--output", "jsonpath={.items[*].spec.replicas}"])?;
        ensure!(pods == "0", "expected no pods of a refused revision, got {pods}");
        // Another spec is tried after a refusal.
        tiny.patch(&json!({"train": {"gate": {"min": "0.5"}}}))?;
        tiny.ready().map(drop)
    })
    .await
}

#[tokio::test]
async fn missing_data_is_named_and_the_serving_revision_continues() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-absent", async |namespace| {
        let source = json!({"configMap": {"name": "rows", "key": "rows.csv"}});
        namespace.apply(&csv_model("tiny", &source))?;
        let tiny = Model { namespace, name: "tiny" };
        let message = tiny.condition_with("Ready", "False", "DataUnavailable", &["rows"]).await?;
        tiny.has_event("DataUnavailable", &message).await?;

        namespace.apply(&config_map("rows", "other.csv", ROWS))?;
        tiny.condition_with("Ready", "False", "DataUnavailable", &["has no key rows.csv"]).await?;

        namespace.apply(&config_map("rows", "rows.csv", ROWS))?;
        let serving = revision(&tiny.ready()?)?;
        namespace.kubectl(&["delete", "configmap", "rows"])?;
        tiny.condition("Ready", "False", "DataUnavailable").await?;
        still_serves(&tiny, &[2.0, 1.0], &serving).await?;

        namespace.apply(&config_map("rows", "rows.csv", ROWS))?;
        ensure!(revision(&tiny.ready()?)? == serving, "the same data made another revision");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn data_over_http_is_used_only_with_the_right_digest() -> Result<()> {
    let _lock = shared().await?;
    let base = files::serve(FILES, &[("rows.csv", ROWS)])?;
    let test = in_namespace("e2e-http", async |namespace| {
        let digest =
            Sha256::digest(ROWS).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let uri = format!("{base}/rows.csv");
        namespace.apply(&csv_model("tiny", &json!({"uri": uri, "sha256": digest})))?;
        let tiny = Model { namespace, name: "tiny" };
        let serving = revision(&tiny.ready()?)?;
        still_serves(&tiny, &[2.0, 1.0], &serving).await?;

        let another = "0".repeat(64);
        tiny.patch(&json!({"train": {"data": {"csv": {"source": {"sha256": another}}}}}))?;
        let message =
            tiny.condition_with("Ready", "False", "DigestMismatch", &["another SHA-256", &another]).await?;
        ensure!(
            !message.contains(&digest),
            "the message has the digest of the data that was found: {message}"
        );
        tiny.has_event("DigestMismatch", &message).await?;
        still_serves(&tiny, &[2.0, 1.0], &serving).await?;

        // A missing file is tried again, because it may appear later.
        tiny.patch(&json!({"train": {"data": {"csv": {"source": {"uri": format!("{base}/absent.csv"), "sha256": digest}}}}}))?;
        let message = tiny
            .condition_with(
                "Ready",
                "False",
                "DataUnavailable",
                &["absent.csv", "no file could be read there"],
            )
            .await?;
        tiny.has_event("DataUnavailable", &message).await?;
        still_serves(&tiny, &[2.0, 1.0], &serving).await
    });
    with_cleanup(test, async || files::stop(FILES)).await
}

#[tokio::test]
async fn a_name_in_use_is_reported_and_used_once_it_is_free() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-taken", async |namespace| {
        let stranger = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "tiny"},
            "spec": {"selector": {"app": "another"}, "ports": [{"port": 5432}]}});
        namespace.apply(&stranger.to_string())?;
        namespace.apply(&small("tiny", &json!({})))?;
        let tiny = Model { namespace, name: "tiny" };
        let message = tiny.condition_with("Ready", "False", "NameTaken", &["Service e2e-taken/tiny"]).await?;
        tiny.has_event("NameTaken", &message).await?;
        let port =
            namespace.kubectl(&["get", "service", "tiny", "--output", "jsonpath={.spec.ports[0].port}"])?;
        ensure!(port == "5432", "the existing Service was overwritten: expected port 5432, got {port}");
        namespace.kubectl(&["delete", "service", "tiny"])?;
        tiny.ready().map(drop)
    })
    .await
}

/// A model of a table with the target y.
pub(crate) fn csv_model(name: &str, source: &Value) -> String {
    small(name, &json!({"train": {"data": {"synthetic": null, "csv": {"source": source, "target": "y"}}}}))
}

/// Fails unless the model is available and every gateway answers with `revision`.
pub(crate) async fn still_serves(model: &Model<'_>, features: &[f64], revision: &str) -> Result<()> {
    model.condition("Available", "True", "Serving").await?;
    for gateway in gateways().await? {
        answers(model, &gateway, features, revision).await?;
    }
    Ok(())
}

async fn answers(model: &Model<'_>, gateway: &Forward, features: &[f64], revision: &str) -> Result<()> {
    let reply = model.predict_until(gateway, features, "a prediction", |r| r.status == 200).await?;
    ensure!(reply.header("canopy-revision") == revision, "{:?} instead of {revision}", reply.headers);
    Ok(())
}
