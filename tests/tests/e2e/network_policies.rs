//! `NetworkPolicy` objects on a real cluster: they are created, repaired and removed.
//!
//! The network of the offline cluster does not enforce them (`deploy/kind/README.md`), so this test checks the objects.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::kubectl_json;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;
use serde_json::{Value, json};

use crate::canopy::{SYSTEM, shared};
use crate::model::{Model, TIMEOUT, small};

const POLICY: &str = "tiny-pods";

/// The policy of the model `tiny`, if there is one.
pub(crate) fn policy(namespace: &Namespace) -> Result<Option<Value>> {
    let policies = namespace.list("networkpolicies", "")?;
    Ok(policies.into_iter().find(|policy| policy["metadata"]["name"] == POLICY))
}

fn prometheus() -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
    })
}

fn port(number: u16) -> Value {
    json!([{"port": number, "protocol": "TCP"}])
}

#[tokio::test]
async fn policies_admit_gateways_to_predictors_and_prometheus_to_metrics() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-networks", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        tiny.ready()?;
        let uid = tiny.read()?["metadata"]["uid"].clone();
        let found = policy(namespace)?.context("the model has no NetworkPolicy")?;
        let spec = &found["spec"];
        ensure!(spec["podSelector"] == json!({"matchLabels": {"canopy.rs/model-uid": uid}}), "{spec}");
        ensure!(spec["policyTypes"] == json!(["Ingress"]), "{spec}");
        let rules = spec["ingress"].as_array().context("it has rules")?;
        ensure!(rules.len() == 2 && rules[0]["ports"] == port(8001) && rules[1]["ports"] == port(9001), "{spec}");
        let gateways = json!({
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/instance": "canopy", "app.kubernetes.io/name": "canopy-gateway"}},
        });
        ensure!(rules[0]["from"][0] == gateways && rules[1]["from"] == json!([prometheus()]), "{spec}");
        for (name, admin, public) in [("canopy-gateway", 9000, Some(8000)), ("canopy-operator", 9002, None)] {
            let found = kubectl_json(&["get", "networkpolicy", name, "--namespace", SYSTEM])?;
            let mut expected: Vec<_> = public.map(|public| json!({"ports": port(public)})).into_iter().collect();
            expected.push(json!({"from": [prometheus()], "ports": port(admin)}));
            ensure!(found["spec"]["ingress"] == json!(expected), "{name}: {}", found["spec"]);
        }

        let admit_all = json!([{"op": "add", "path": "/spec/ingress/-", "value": {}}]).to_string();
        namespace.kubectl(&["patch", "networkpolicy", POLICY, "--type", "json", "--patch", &admit_all])?;
        until("the policy to be repaired", TIMEOUT, async || {
            let now = policy(namespace)?;
            ensure!(now.as_ref().is_some_and(|now| now["spec"] == *spec), "got {now:?}");
            Ok(())
        })
        .await?;
        namespace.kubectl(&["delete", "networkpolicy", POLICY])?;
        until("the policy to be back", TIMEOUT, async || {
            let now = policy(namespace)?;
            ensure!(now.as_ref().is_some_and(|now| now["spec"] == *spec), "got {now:?}");
            Ok(())
        })
        .await?;
        namespace.kubectl(&["delete", "predictormodel", "tiny"])?;
        until("the policy to go with its model", TIMEOUT, async || {
            let now = policy(namespace)?;
            ensure!(now.is_none(), "got {now:?}");
            Ok(())
        })
        .await
    })
    .await
}
