//! Settings of the operator in the chart. Each takes effect when the operators restart, and no running pod is restarted.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{kubectl, kubectl_json};
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;
use serde_json::json;

use crate::canopy::{SYSTEM, exclusive, install, install_with, rolled_out};
use crate::data_sources::{NO_DETAILS, digest};
use crate::failures::{ROWS, csv_model, still_serves};
use crate::files;
use crate::model::{Model, State, TIMEOUT, revision, small};
use crate::network_policies::policy;

const FILES: &str = "e2e-files-settings";
const IMAGE: &str = concat!("canopy-predictor:", env!("CARGO_PKG_VERSION"));

/// One test for all settings, because each restart of the operators takes ten seconds.
#[tokio::test]
async fn networks_policies_and_the_predictor_image_take_effect_and_restart_no_pod() -> Result<()> {
    let _lock = exclusive().await?;
    let base = files::serve(FILES, &[("rows.csv", ROWS)])?;
    let test = in_namespace("e2e-settings", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        let serving = revision(&tiny.ready()?)?;
        let has_same_pods = |before: &BTreeMap<String, State>| {
            let now = tiny.pods(&serving)?;
            let uids = |pods: &BTreeMap<String, State>| pods.values().map(|pod| pod.uid.clone()).collect();
            let (before, now): (Vec<_>, Vec<_>) = (uids(before), uids(&now));
            ensure!(now == before, "expected the pods {before:?}, got {now:?}");
            Ok(())
        };
        let before = tiny.pods(&serving)?;
        let csv = |name: &str, file: &str| {
            csv_model(name, &json!({"uri": format!("{base}/{file}"), "sha256": digest(ROWS)}))
        };

        let deny_all = "operator.sources.deniedNetworks={0.0.0.0/0,::/0}".to_owned();
        install_with(&[deny_all, "networkPolicy.enabled=false".to_owned()])?;
        has_no_policies(namespace).await?;
        namespace.apply(&csv("denied", "rows.csv"))?;
        let denied = Model { namespace, name: "denied" };
        denied.condition_with("Ready", "False", "DataUnavailable", &[NO_DETAILS]).await?;

        // The addresses of pods and Services in clusters of kind.
        install_with(&["operator.sources.allowedNetworks={10.0.0.0/8}".to_owned()])?;
        until("the policy to be back", TIMEOUT, async || {
            ensure!(policy(namespace)?.is_some(), "expected a NetworkPolicy of the model, got none");
            Ok(())
        })
        .await?;
        namespace.apply(&csv("absent", "absent.csv"))?;
        namespace.apply(&csv("allowed", "rows.csv"))?;
        let absent = Model { namespace, name: "absent" };
        absent.condition_with("Ready", "False", "DataUnavailable", &["404 Not Found"]).await?;
        Model { namespace, name: "allowed" }.ready()?;
        // A revision keeps the networks with which it was created.
        denied.condition_with("Ready", "False", "DataUnavailable", &[NO_DETAILS]).await?;
        has_same_pods(&before)?;

        predictor_image("canopy-predictor:absent")?;
        rolled_out()?;
        still_serves(&tiny, &[1.0; 4], &serving).await?;
        tiny.condition("Ready", "True", "Serving").await?;
        ensure!(revision(&tiny.read()?)? == serving, "expected revision {serving} to serve");
        tiny.patch(&json!({"version": "2.0"}))?;
        let message =
            tiny.condition_with("Ready", "False", "ImageUnavailable", &["canopy-predictor:absent"]).await?;
        tiny.has_event("ImageUnavailable", &message).await?;
        still_serves(&tiny, &[1.0; 4], &serving).await?;
        has_same_pods(&before)
    });
    with_cleanup(test, async || {
        predictor_image(IMAGE)?;
        install()?;
        rolled_out()?;
        files::stop(FILES)
    })
    .await
}

/// Returns when neither the model `tiny` nor Canopy itself has a policy.
async fn has_no_policies(namespace: &Namespace) -> Result<()> {
    until("the policy to go", TIMEOUT, async || {
        let now = policy(namespace)?;
        ensure!(now.is_none(), "expected no NetworkPolicy of the model, got {now:?}");
        Ok(())
    })
    .await?;
    let left = kubectl_json(&["get", "networkpolicies", "--namespace", SYSTEM])?;
    ensure!(left["items"] == json!([]), "expected no NetworkPolicy of Canopy, got {left}");
    Ok(())
}

/// Sets the operator's image of the predictor.
fn predictor_image(image: &str) -> Result<()> {
    let setting = format!("CANOPY_PREDICTOR_IMAGE={image}");
    kubectl(&["set", "env", "deployment/canopy-operator", "--namespace", SYSTEM, &setting]).map(drop)
}
