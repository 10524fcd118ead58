//! A tenant with rights to `ConfigMap`s and models only cannot run arbitrary pods, and cannot change another tenant's model.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::{kubectl, kubectl_as};
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;
use serde_json::{Value, json};

use crate::canopy::shared;
use crate::model::{Model, TIMEOUT, revision, small};

/// A `ServiceAccount` of a namespace with rights to `ConfigMap`s and models only.
struct Tenant<'a> {
    namespace: &'a Namespace,
    user: String,
}

impl<'a> Tenant<'a> {
    fn new(namespace: &'a Namespace) -> Result<Self> {
        let allow = |group: &str, resource: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": ["*"]});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"});
        let tenant = json!([{"kind": "ServiceAccount", "name": "tenant", "namespace": namespace.name}]);
        let items = json!([
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant"}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "tenant"},
             "rules": [allow("", "configmaps"), allow("canopy.rs", "predictormodels")]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "tenant"},
             "roleRef": role, "subjects": tenant},
        ]);
        namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
        Ok(Self { namespace, user: format!("system:serviceaccount:{}:tenant", namespace.name) })
    }

    fn kubectl(&self, words: &[&str], input: &str) -> Result<String> {
        kubectl_as(&self.user, &[&["--namespace", &self.namespace.name], words].concat(), input)
    }

    /// Replaces an object by one with the same name.
    fn put(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("an object has a name")?;
        self.kubectl(&["delete", "configmap", name, "--ignore-not-found"], "")?;
        self.kubectl(&["create", "--filename", "-"], &object.to_string()).map(drop)
    }

    /// Pauses or resumes a model.
    fn pause(&self, model: &str, paused: bool) -> Result<()> {
        let patch = json!({"spec": {"paused": paused}}).to_string();
        let words = ["patch", "predictormodel", model, "--type", "merge", "--patch", &patch];
        self.kubectl(&words, "").map(drop)
    }
}

/// The labels of the objects of a revision of `tiny`.
fn labels(uid: &str, revision: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "canopy-predictor",
        "app.kubernetes.io/instance": "tiny",
        "app.kubernetes.io/component": "predictor",
        "app.kubernetes.io/part-of": "canopy",
        "app.kubernetes.io/managed-by": "canopy-operator",
        "app.kubernetes.io/version": "1.0",
        "canopy.rs/model-uid": uid,
        "canopy.rs/revision": revision,
    })
}

/// A `ConfigMap` with a pod template, as earlier operators used them. The pod is of the restricted level and has the token of a
/// `ServiceAccount`.
fn forged(uid: &str, revision: &str) -> Value {
    let container = json!({
        "name": "serve",
        "image": concat!("canopy-predictor:", env!("CARGO_PKG_VERSION")),
        "args": ["--help"],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": true, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
    });
    let pod = json!({"metadata": {"labels": labels(uid, revision)},
        "spec": {"serviceAccountName": "tenant", "containers": [container]}});
    let serving = json!({"model": "tiny", "namespace": "any", "revision": revision, "version": "1.0"});
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("tiny-{revision}"), "labels": labels(uid, revision)},
        "immutable": true,
        "data": {"serving.json": serving.to_string(), "pod.json": pod.to_string()},
    })
}

/// Fails if a Deployment, `ReplicaSet` or pod has the `ServiceAccount` of the tenant.
fn check_templates(namespace: &Namespace) -> Result<()> {
    for kind in ["deployments", "replicasets", "pods"] {
        let all = json!(namespace.list(kind, "")?).to_string();
        ensure!(
            !all.contains("\"serviceAccountName\":\"tenant\""),
            "a tenant's template became {kind}: {all}"
        );
    }
    Ok(())
}

fn uid(model: &Model<'_>) -> Result<String> {
    Ok(model.read()?["metadata"]["uid"].as_str().context("an object has a uid")?.to_owned())
}

/// The data of the `ConfigMap` of a revision.
fn content(namespace: &Namespace, revision: &str) -> Result<Value> {
    let name = format!("tiny-{revision}");
    Ok(namespace.json("configmaps", &name)?["data"].take())
}

#[tokio::test]
async fn config_maps_that_a_tenant_creates_or_replaces_have_no_effect() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-tenant", async |namespace| {
        let tenant = Tenant::new(namespace)?;
        ensure!(
            tenant.kubectl(&["auth", "can-i", "create", "controllerrevisions.apps"], "").is_err(),
            "the tenant must not have the right to create ControllerRevisions"
        );
        // Two models with the same spec have the same revision, so the tenant knows its name in advance.
        tenant.kubectl(&["apply", "--filename", "-"], &small("probe", &json!({"replicas": 1})))?;
        let serving = revision(&Model { namespace, name: "probe" }.ready()?)?;
        tenant.kubectl(
            &["apply", "--filename", "-"],
            &small("tiny", &json!({"replicas": 1, "paused": true})),
        )?;
        let tiny = Model { namespace, name: "tiny" };
        tiny.condition("Progressing", "False", "Paused").await?;
        let uid = uid(&tiny)?;
        tenant.put(&forged(&uid, &serving))?;
        tenant.pause("tiny", false)?;
        tiny.ready()?;
        check_templates(namespace)?;
        let as_made = content(namespace, &serving)?;
        ensure!(as_made["pod.json"].is_null(), "the tenant's ConfigMap is still there: {as_made}");

        // The same for a revision that has served. The model is paused, so that the operator does not act first.
        tenant.pause("tiny", true)?;
        tiny.condition("Progressing", "False", "Paused").await?;
        tenant.put(&forged(&uid, &serving))?;
        tenant.pause("tiny", false)?;
        replaced(namespace, &serving, &as_made).await?;
        tiny.has_event("Repaired", "did not have the content that the operator wrote and was replaced")
            .await?;
        check_templates(namespace)?;
        let after = tiny.ready()?;
        ensure!(revision(&after)? == serving, "the revision that serves is another");
        tiny.has_pods(&serving, 1).await
    })
    .await
}

async fn replaced(namespace: &Namespace, revision: &str, as_made: &Value) -> Result<()> {
    until("the tenant's ConfigMap to be replaced", TIMEOUT, async || {
        let now = content(namespace, revision)?;
        ensure!(now == *as_made, "there is {now}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_tenant_of_another_namespace_changes_nothing_of_a_model() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-victim", async |namespace| {
        in_namespace("e2e-attacker", async |other| {
            namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
            let tiny = Model { namespace, name: "tiny" };
            let serving = revision(&tiny.ready()?)?;
            let uid = uid(&tiny)?;
            Tenant::new(other)?.put(&forged(&uid, &serving))?;
            other.apply(&stuck(&uid, &serving))?;
            until("a pod that cannot start", TIMEOUT, async || {
                let pod = other.json("pods", "forged")?.to_string();
                ensure!(pod.contains("ErrImageNeverPull"), "{pod}");
                Ok(())
            })
            .await?;
            // The operator reconciles the model with the forged objects.
            tiny.scale(2)?;
            tiny.has_pods(&serving, 2).await?;
            tiny.condition_with("Ready", "True", "Serving", &["with all 2 pods"]).await?;
            check_templates(namespace)?;
            check_templates(other)?;
            let deployments = other.kubectl(&["get", "deployments", "--output", "name"])?;
            ensure!(deployments.is_empty(), "there are {deployments}");
            let forged =
                kubectl(&["get", "configmap", &format!("tiny-{serving}"), "--namespace", &other.name])?;
            ensure!(!forged.is_empty(), "the operator deleted an object of another namespace");
            Ok(())
        })
        .await
    })
    .await
}

/// A pod with the labels of a revision that never starts.
fn stuck(uid: &str, revision: &str) -> String {
    let container = |name: &str| {
        json!({
            "name": name, "image": "canopy-none:0", "imagePullPolicy": "Never",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    let security =
        json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "forged", "labels": labels(uid, revision)},
        "spec": {"securityContext": security, "initContainers": [container("prepare")], "containers": [container("serve")]},
    })
    .to_string()
}

#[tokio::test]
async fn the_built_in_role_edit_may_not_write_snapshots_of_revisions() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-editor", async |namespace| {
        namespace.kubectl(&["create", "serviceaccount", "editor"])?;
        let editor = format!("{}:editor", namespace.name);
        namespace.kubectl(&[
            "create",
            "rolebinding",
            "editor",
            "--clusterrole",
            "edit",
            "--serviceaccount",
            &editor,
        ])?;
        let user = format!("system:serviceaccount:{editor}");
        let may = |verb: &str, resource: &str| {
            kubectl_as(&user, &["auth", "can-i", verb, resource, "--namespace", &namespace.name], "").is_ok()
        };
        ensure!(may("create", "configmaps"), "the role is not bound");
        for verb in ["create", "update", "patch", "delete"] {
            ensure!(!may(verb, "controllerrevisions.apps"), "the role edit may {verb} ControllerRevisions");
        }
        Ok(())
    })
    .await
}
