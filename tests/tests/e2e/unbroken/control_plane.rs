//! The API server and etcd killed, and an API server that fails: what serves goes on, and what
//! was asked for meanwhile is done afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::{apply, kubectl, kubectl_json, on_node};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::{pass, until};
use serde_json::{Value, json};

use super::Scene;
use super::changes::{grow, replaced};
use crate::audit::{is_operators, writes};
use crate::canopy::{alone, leader};
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
fn broken() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "e2e-broken"},
    "webhooks": [{
        "name": "broken.e2e.canopy.rs", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "timeoutSeconds": 1,
        "clientConfig": {"service": {"name": "nobody", "namespace": "default"}},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}],
    }]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_for_a_while_only_delays_a_change() -> Result<()> {
    let _turn = alone().await?;
    in_namespace("e2e-failing", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut load = scene.load().await?;
        let mark = writes()?.len();
        let refused = async {
            let old = revision(&scene.model.read()?)?;
            apply("default", &broken().to_string())?;
            grow(&scene.model, 11)?;
            pass(REFUSING).await;
            let still = revision(&scene.model.read()?)?;
            mend()?;
            ensure!(still == old, "the change was done although the API server failed");
            replaced(&scene.model, &old).await.map(drop)
        };
        let outcome = load.during(&format!("500 for {REFUSING:?}"), refused).await;
        mend()?;
        outcome?;
        let log = writes()?;
        let is_failure = |write: &&Value| is_operators(write) && write["responseStatus"]["code"] == 500;
        let count = log.iter().skip(mark).filter(is_failure).count();
        ensure!(count > 0, "the API server never answered 500 to an operator");
        load.calm("after").await?;
        load.stop().await.all_answered("an API server that answers 500")
    })
    .await
}

fn mend() -> Result<()> {
    kubectl(&["delete", "validatingwebhookconfiguration", "e2e-broken", "--ignore-not-found"]).map(drop)
}
