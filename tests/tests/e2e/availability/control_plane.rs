//! The API server and etcd killed, watches that expire, and an API server that refuses: what serves goes on, and what was
//! asked for meanwhile is done afterwards.

use anyhow::{Result, ensure};
use canopy_tests::kubernetes::{apply, kubectl, this_machine};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use canopy_tests::webhook::Webhook;
use serde_json::{Value, json};

use super::Scene;
use super::changes::{grow, replaced};
use crate::audit::{is_operators, writes};
use crate::canopy::{SYSTEM, exclusive, leader, pods, under_load};
use crate::model::{TIMEOUT, revision};
use crate::signals::signal_control_plane;

/// The name of the webhook that refuses.
const REFUSER: &str = "e2e-refuser";

/// Kills a program of the control plane, and returns when another process is in its place and the API server is well.
async fn killed(program: &str) -> Result<()> {
    let before = signal_control_plane(program, "KILL")?;
    until(&format!("another {program}"), TIMEOUT, async || {
        // Signal 0 only looks.
        let now = signal_control_plane(program, "0")?;
        ensure!(before.lines().all(|old| now.lines().all(|new| new != old)), "it is {now}");
        kubectl(&["get", "--raw", "/readyz", "--request-timeout", "2s"]).map(drop)
    })
    .await
}

/// What the API server says of watches that go on from where it cannot know what happened since: status 410.
const EXPIRED: &str = "too old resource version";

/// How often operators were told so by now.
fn expired() -> Result<usize> {
    let told = |pod: &String| Ok(kubectl(&["logs", pod, "--namespace", SYSTEM])?.matches(EXPIRED).count());
    pods("operator")?.iter().map(told).sum()
}

/// The operator that holds the Lease, and how often it was started anew.
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
            let (mark, leads) = (expired()?, leading_process()?);
            load.during(&format!("{program} killed"), killed(program)).await?;
            // Watches had to be begun anew: an operator that did not would never hear of this.
            let changed = async {
                let old = revision(&scene.model.read()?)?;
                until("a change that is taken", TIMEOUT, async || grow(&scene.model, 11 + number as u32))
                    .await?;
                replaced(&scene.model, &old).await.map(drop)
            };
            load.during("a change afterwards", changed).await?;
            until("a leader", TIMEOUT, async || leader()).await?;
            // What happened while there was no API server, the next one does not know. Unless that took so long that the
            // leader gave up: the watches of the next one are new.
            if program == "kube-apiserver" {
                let (told, is_same) = (expired()?.saturating_sub(mark), leading_process()? == leads);
                println!(
                    "API server killed: {told} watches expired, of the leader that still is one: {is_same}"
                );
                ensure!(told > 0 || !is_same, "no operator was told {EXPIRED:?}");
            }
        }
        load.stop().await.all_answered("API server and etcd killed")
    })
    .await
}

/// Has `refuser` asked before every write to a Deployment of `namespace`.
fn asked(refuser: &Webhook, namespace: &str) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": REFUSER},
    "webhooks": [{
        "name": "refuser.e2e.canopy.rs", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "timeoutSeconds": 5, "clientConfig": refuser.client_config(),
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}],
    }]})
}

/// How many writes of the operators in `namespace` the API server has answered with `status`.
fn answered_with(status: u16, namespace: &str) -> Result<usize> {
    let is_one = |write: &&Value| {
        let is_here = write["objectRef"]["namespace"] == namespace;
        is_here && is_operators(write) && write["responseStatus"]["code"] == status
    };
    Ok(writes()?.iter().filter(is_one).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_refuses_for_a_while_only_delays_a_change() -> Result<()> {
    let _lock = under_load().await?;
    // Left by a run that was interrupted, it would refuse what this one begins with.
    forget()?;
    in_namespace("e2e-refusing", async |namespace| {
        let scene = Scene::new(namespace, &json!({"replicas": 2}), &[]).await?;
        let refuser = Webhook::start(this_machine()?).await?;
        apply("default", &asked(&refuser, &namespace.name).to_string())?;
        let mut load = scene.load().await?;
        for (number, status) in [429, 409, 500].into_iter().enumerate() {
            let delayed = async {
                let (old, mark) = (revision(&scene.model.read()?)?, answered_with(status, &namespace.name)?);
                refuser.refuse_with(status);
                grow(&scene.model, 11 + number as u32)?;
                until("an operator to be refused twice", TIMEOUT, async || {
                    let count = answered_with(status, &namespace.name)? - mark;
                    ensure!(count > 1, "it was {count} times");
                    Ok(())
                })
                .await?;
                let still = revision(&scene.model.read()?)?;
                refuser.allow_all();
                ensure!(still == old, "the change was done although the API server refused it");
                replaced(&scene.model, &old).await.map(drop)
            };
            let outcome = load.during(&format!("{status} for a while"), delayed).await;
            if outcome.is_err() {
                forget()?;
            }
            outcome?;
        }
        forget()?;
        load.calm("after").await?;
        load.stop().await.all_answered("an API server that answers 429, 409 and 500")
    })
    .await
}

fn forget() -> Result<()> {
    kubectl(&["delete", "validatingwebhookconfiguration", REFUSER, "--ignore-not-found"]).map(drop)
}
