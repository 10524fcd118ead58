//! The API server and etcd killed, expired watches, and an API server that refuses writes: predictions continue, and changes
//! are made afterwards.

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{apply, kubectl, this_machine};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use canopy_tests::webhook::Webhook;
use serde_json::{Value, json};

use super::Scene;
use super::changes::{grow, replaced};
use crate::audit::{Mark, is_operators};
use crate::canopy::{SYSTEM, exclusive, leader, pods, under_load};
use crate::model::{TIMEOUT, revision};
use crate::signals::signal_control_plane;

/// The name of the webhook that refuses.
const WEBHOOK: &str = "e2e-webhook";

/// Kills a program of the control plane, and returns when another process is in its place and the API server is well.
async fn killed(program: &str) -> Result<()> {
    let before = signal_control_plane(program, "KILL")?;
    until(&format!("another {program}"), TIMEOUT, async || {
        // Signal 0 only checks that the process exists.
        let now = signal_control_plane(program, "0")?;
        ensure!(
            before.lines().all(|old| now.lines().all(|new| new != old)),
            "expected other processes than {before}, got {now}"
        );
        kubectl(&["get", "--raw", "/readyz", "--request-timeout", "2s"]).map(drop)
    })
    .await
}

/// The message of the API server for a watch from a version whose successors it no longer has: status 410.
const EXPIRED: &str = "too old resource version";

/// The number of these messages that operators have logged.
fn expired_watches() -> Result<usize> {
    let count = |pod: &String| Ok(kubectl(&["logs", pod, "--namespace", SYSTEM])?.matches(EXPIRED).count());
    pods("operator")?.iter().map(count).sum()
}

/// The operator that holds the Lease, and the number of its restarts.
fn leading_process() -> Result<(String, String)> {
    let leads = leader()?;
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    let restarts = kubectl(&["get", "pod", &leads, "--namespace", SYSTEM, "--output", restarts])?;
    Ok((leads, restarts))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_what_serves_goes_on_and_changes_wait() -> Result<()> {
    let _lock = exclusive().await?;
    in_namespace("e2e-etcd", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let mut load = scene.load().await?;
        for (number, program) in ["kube-apiserver", "etcd"].into_iter().enumerate() {
            let (mark, leads) = (expired_watches()?, leading_process()?);
            load.during(&format!("{program} killed"), killed(program)).await?;
            // An operator whose watches were not restarted would never see this change.
            let changed = async {
                let old = revision(&scene.model.read()?)?;
                until("a change that the API server accepts", TIMEOUT, async || {
                    grow(&scene.model, 11 + number as u32)
                })
                .await?;
                replaced(&scene.model, &old).await.map(drop)
            };
            load.during("a change afterwards", changed).await?;
            until("a leader", TIMEOUT, async || leader()).await?;
            // The new API server does not have the events before its start, so watches expire. If that took so long that the
            // leader lost its Lease, the watches of the next leader are new instead.
            if program == "kube-apiserver" {
                let (expired, is_same) =
                    (expired_watches()?.saturating_sub(mark), leading_process()? == leads);
                println!("API server killed: {expired} watches expired; the leader is the same: {is_same}");
                ensure!(expired > 0 || !is_same, "expected {EXPIRED:?} in the log of an operator, got none");
            }
        }
        load.stop().await.all_answered("API server and etcd killed")
    })
    .await
}

/// Makes the API server call `webhook` before every write to a Deployment of `namespace`.
fn configuration(webhook: &Webhook, namespace: &str) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": WEBHOOK},
    "webhooks": [{
        "name": "webhook.e2e.canopy.rs", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "timeoutSeconds": 5, "clientConfig": webhook.client_config(),
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}],
    }]})
}

/// The number of writes of the operators in `namespace` that the API server has answered with `status` since `mark`.
fn answered_with(status: u16, namespace: &str, mark: &Mark) -> Result<usize> {
    let is_one = |write: &&Value| {
        let is_here = write["objectRef"]["namespace"] == namespace;
        is_here && is_operators(write) && write["responseStatus"]["code"] == status
    };
    Ok(mark.writes()?.iter().filter(is_one).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_refuses_for_a_while_only_delays_a_change() -> Result<()> {
    let _lock = under_load().await?;
    // The webhook of an interrupted run would refuse the first writes.
    delete_webhook()?;
    let test = in_namespace("e2e-refusing", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let webhook = Webhook::start(this_machine()?).await?;
        apply("default", &configuration(&webhook, &namespace.name).to_string())?;
        let mut load = scene.load().await?;
        for (number, status) in [429, 409, 500].into_iter().enumerate() {
            let delayed = async {
                let (old, mark) = (revision(&scene.model.read()?)?, Mark::now()?);
                webhook.refuse_with(status);
                grow(&scene.model, 11 + number as u32)?;
                until("an operator to be refused twice", TIMEOUT, async || {
                    let count = answered_with(status, &namespace.name, &mark)?;
                    ensure!(count > 1, "expected two answers with {status}, got {count}");
                    Ok(())
                })
                .await?;
                let still = revision(&scene.model.read()?)?;
                webhook.allow_all();
                ensure!(still == old, "the change was done although the API server refused it");
                replaced(&scene.model, &old).await.map(drop)
            };
            load.during(&format!("{status} for a while"), delayed).await?;
        }
        delete_webhook()?;
        load.calm("after").await?;
        load.stop().await.all_answered("an API server that answers 429, 409 and 500")
    });
    with_cleanup(test, async || delete_webhook()).await
}

fn delete_webhook() -> Result<()> {
    kubectl(&["delete", "validatingwebhookconfiguration", WEBHOOK, "--ignore-not-found"]).map(drop)
}
