//! The memory of an operator that starts in a cluster with many models whose `ConfigMap`s are large.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::api;
use canopy_tests::kubernetes::kubectl_json;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;
use serde_json::json;

use crate::canopy::{
    SYSTEM, exclusive_at_last, leader, measurements, rolled_out, scale_operators, without_operators,
};
use crate::model::{TIMEOUT, small};

/// The number of models. With the copies they have 108 MB of data, more than the limit.
const MODELS: usize = 60;
const DATA_BYTES: usize = 900_000;
/// The number of models in one manifest.
const AT_ONCE: usize = 30;
const LIMIT: Duration = Duration::from_mins(5);
/// A third of the chart's limit for the operator, and less than the data.
const BYTES_MAX: f64 = 88e6;

/// A table of `DATA_BYTES`, which differs from model to model.
fn table(model: usize) -> String {
    // All rows have the same number of bytes.
    let row = |row: usize| {
        format!("{:08},{:02},{}\n", row, row % 7, if row.is_multiple_of(2) { "yes" } else { "nay" })
    };
    let rows: String = (0..DATA_BYTES / row(0).len()).map(row).collect();
    format!("a,b,y\n{model},0,nay\n{rows}")
}

fn create(namespace: &Namespace) -> Result<()> {
    let numbers: Vec<_> = (0..MODELS).collect();
    api::create_all("configmaps", &namespace.name, &numbers, |i| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("rows{i}")},
            "data": {"rows.csv": table(i)}})
    })?;
    for first in (0..MODELS).step_by(AT_ONCE) {
        let model = |i: usize| {
            let source = json!({"configMap": {"name": format!("rows{i}"), "key": "rows.csv"}});
            let data = json!({"synthetic": null, "csv": {"source": source, "target": "y"}});
            small(&format!("m{i}"), &json!({"replicas": 0, "train": {"data": data}}))
        };
        let models: Vec<_> = (first..first + AT_ONCE).map(model).collect();
        namespace.apply(&models.join("\n---\n"))?;
    }
    Ok(())
}

/// The number of revisions with a copy of their data.
fn copies(namespace: &Namespace) -> Result<usize> {
    let own = ["get", "configmaps", "--selector", "canopy.rs/model-uid", "--output", "name"];
    Ok(namespace.kubectl(&own)?.lines().filter(|name| name.ends_with("-data")).count())
}

#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
fn tell(bytes: f64) {
    let megabytes = bytes / 1e6;
    println!(
        "figure: {MODELS} models with {DATA_BYTES} bytes of data each: a started operator takes {megabytes:.1} MB"
    );
}

#[tokio::test]
async fn an_operator_with_many_large_models_starts_within_its_memory() -> Result<()> {
    let _lock = exclusive_at_last().await?;
    in_namespace("e2e-large-data", async |namespace| {
        create(namespace)?;
        until("all copies to be made", LIMIT, async || {
            let made = copies(namespace)?;
            ensure!(made == MODELS, "expected {MODELS} copies, got {made}");
            Ok(())
        })
        .await?;
        without_operators().await?;
        scale_operators(2)?;
        rolled_out()?;
        let operator = until("an operator", TIMEOUT, async || leader()).await?;
        // After it has reconciled each model, it has read all that it needs.
        let used = until("a pass over each model", LIMIT, async || {
            let scrape = measurements(&operator).await?;
            let passes = scrape.count("canopy_operator_reconciles_total", &[])?;
            ensure!(passes >= MODELS as u64, "{passes} of {MODELS} passes");
            scrape.sum("process_resident_memory_bytes", &[])
        })
        .await?;
        tell(used);
        ensure!(used < BYTES_MAX, "a started operator takes {used} bytes, the limit is {BYTES_MAX}");
        let pod = kubectl_json(&["get", "pod", &operator, "--namespace", SYSTEM])?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        ensure!(restarts.context("a pod counts its restarts")? == 0, "the operator ended: {}", pod["status"]);
        Ok(())
    })
    .await
}
