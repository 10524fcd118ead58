//! The API server and etcd killed, and an API server that refuses what the operator asks: what serves goes on, and what
//! was asked for meanwhile is done afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::{apply, kubectl, kubectl_json, on_node};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::{pass, until};
use serde_json::json;

use super::Scene;
use super::changes::{grow, replaced};
use crate::audit::{is_operators, writes};
use crate::canopy::{SYSTEM, alone, leader};
use crate::model::{PATIENCE, revision};

/// How long the API server refuses.
const REFUSING: Duration = Duration::from_secs(12);

/// Kills every process of a program on a node; fails where there is none.
const KILL: &str = r#"
killed=
for process in /proc/[0-9]*; do
    if [ "$(cat "$process/comm" 2>/dev/null)" = "$1" ]; then kill -KILL "${process#/proc/}" && killed=yes; fi
done
[ "$killed" ]"#;

async fn killed(program: &str) -> Result<()> {
    let nodes = kubectl_json(&["get", "nodes", "--selector", "node-role.kubernetes.io/control-plane"])?;
    let node = nodes["items"][0]["metadata"]["name"].as_str().context("there is a control plane")?;
    on_node(node, KILL, &[program])?;
    until("the API server to be gone", PATIENCE, async || {
        ensure!(
            kubectl(&["get", "--raw", "/readyz", "--request-timeout", "2s"]).is_err(),
            "it still answers"
        );
        Ok(())
    })
    .await?;
    until("the API server to be back", PATIENCE, async || {
        kubectl(&["get", "--raw", "/readyz", "--request-timeout", "2s"]).map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_what_serves_goes_on_and_changes_wait() -> Result<()> {
    let _turn = alone().await?;
    in_namespace("e2e-etcd", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut load = scene.load().await?;
        for (number, program) in ["kube-apiserver", "etcd"].into_iter().enumerate() {
            load.during(&format!("{program} killed"), killed(program)).await?;
            // Watches had to be begun anew: an operator that did not would never hear of this.
            let changed = async {
                let old = revision(&scene.model.read()?)?;
                until("a change that is taken", PATIENCE, async || grow(&scene.model, 11 + number as u32))
                    .await?;
                replaced(&scene.model, &old).await.map(drop)
            };
            load.during("a change afterwards", changed).await?;
        }
        until("a leader", PATIENCE, async || leader()).await?;
        load.stop().await.all_answered("API server and etcd killed")
    })
    .await
}

/// Every write of the operators to a Deployment fails on its way, with 500.
fn broken() -> serde_json::Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "e2e-broken"},
    "webhooks": [{
        "name": "broken.e2e.canopy.rs", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "timeoutSeconds": 1,
        "clientConfig": {"service": {"name": "nobody", "namespace": "default"}},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}],
    }]})
}

/// Every request of the operators is one too many, with 429.
fn too_many() -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "e2e-none"},
            "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "lendablePercent": 0,
                "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}},
        {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "e2e-none"},
            "spec": {"matchingPrecedence": 2, "priorityLevelConfiguration": {"name": "e2e-none"},
                "rules": [{
                    "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "canopy-operator", "namespace": SYSTEM}}],
                    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
                }]}},
    ]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_refuses_for_a_while_only_delays_a_change() -> Result<()> {
    let _turn = alone().await?;
    in_namespace("e2e-refusing", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut load = scene.load().await?;
        for (trees, code, manifest) in [(11, 500, broken()), (12, 429, too_many())] {
            let manifest = manifest.to_string();
            let mark = writes()?.len();
            let refused = async {
                let old = revision(&scene.model.read()?)?;
                apply("default", &manifest)?;
                grow(&scene.model, trees)?;
                pass(REFUSING).await;
                let still = revision(&scene.model.read()?)?;
                remove(code)?;
                ensure!(still == old, "the change was done although the API server refused");
                replaced(&scene.model, &old).await.map(drop)
            };
            let outcome = load.during(&format!("{code} for {REFUSING:?}"), refused).await;
            remove(code)?;
            outcome?;
            let log = writes()?;
            let refused =
                |write: &&serde_json::Value| is_operators(write) && write["responseStatus"]["code"] == code;
            let count = log.iter().skip(mark).filter(refused).count();
            ensure!(count > 0, "the API server never answered {code} to an operator");
        }
        until("a leader", PATIENCE, async || leader()).await?;
        load.calm("after").await?;
        load.stop().await.all_answered("an API server that answers 500, then 429")
    })
    .await
}

fn remove(code: u16) -> Result<()> {
    let kinds = if code == 500 {
        "validatingwebhookconfigurations/e2e-broken".to_owned()
    } else {
        "flowschemas/e2e-none,prioritylevelconfigurations/e2e-none".to_owned()
    };
    for object in kinds.split(',') {
        kubectl(&["delete", object, "--ignore-not-found"])?;
    }
    Ok(())
}
