//! A second installation of Canopy in one cluster: only the first acts, and the second reports why it does not.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{apply, helm, kubectl, kubectl_json};
use canopy_tests::namespace::in_namespace;
use canopy_tests::wait::until;
use serde_json::json;

use crate::canopy::{SYSTEM, leader, shared};
use crate::model::{Model, TIMEOUT, small};

const OTHER: &str = "e2e-other";
/// The name and the namespace of the release that Helm refuses.
const RELEASE: &str = "e2e-release";
const LEASES: &str = "kube-system";

#[tokio::test]
async fn a_second_release_is_refused_by_helm() -> Result<()> {
    let _lock = shared().await?;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/canopy");
    let installed =
        helm(&["install", RELEASE, chart, "--namespace", RELEASE, "--create-namespace", "--skip-crds"]);
    let refused = match installed {
        Ok(_) => {
            helm(&["uninstall", RELEASE, "--namespace", RELEASE])?;
            String::new()
        }
        Err(error) => format!("{error:#}"),
    };
    kubectl(&["delete", "namespace", RELEASE, "--ignore-not-found", "--wait=false"])?;
    ensure!(refused.contains("canopy-operator-lease"), "a second release was installed: {refused}");
    Ok(())
}

#[tokio::test]
async fn the_operator_of_a_second_installation_stays_inactive_and_logs_why() -> Result<()> {
    let _lock = shared().await?;
    let test = in_namespace(OTHER, async |namespace| {
        let first = until("a leader", TIMEOUT, async || leader()).await?;
        install_operator()?;
        let pod =
            ["get", "pods", "--selector", "app=second", "--output", "jsonpath={.items[0].metadata.name}"];
        let pod = until("its pod", TIMEOUT, async || namespace.kubectl(&pod)).await?;
        until("the reason why it does not lead", TIMEOUT, async || {
            let log = namespace.kubectl(&["logs", &pod])?;
            ensure!(log.contains("another installation of Canopy, canopy-system/canopy, leads"), "{log}");
            Ok(())
        })
        .await?;
        let ready = ["get", "pod", &pod, "--output", "jsonpath={.status.containerStatuses[0].ready}"];
        ensure!(namespace.kubectl(&ready)? == "false", "{pod} is ready");

        // Only the first operator publishes Events of a model.
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        tiny.ready()?;
        let events = ["get", "events", "--field-selector", "reason=Serving", "--output", "name"];
        let reported = namespace.kubectl(&events)?;
        ensure!(reported.lines().count() == 1, "expected one Event, got {reported}");
        ensure!(leader()? == first, "another operator leads");
        Ok(())
    });
    with_cleanup(test, async || {
        kubectl(&["delete", "clusterrolebinding", OTHER, "--ignore-not-found"])?;
        kubectl(&["delete", "rolebinding", OTHER, "--namespace", LEASES, "--ignore-not-found"]).map(drop)
    })
    .await
}

/// Installs an operator like the existing one without Helm, in the namespace of the test.
fn install_operator() -> Result<()> {
    let installed =
        kubectl_json(&["get", "deployment", "canopy-operator", "--namespace", SYSTEM])?["spec"].clone();
    let mut pod = installed["template"]["spec"].clone();
    pod["serviceAccountName"] = "second".into();
    drop(pod.as_object_mut().context("a pod has fields")?.remove("serviceAccount"));
    let variables = pod["containers"][0]["env"].as_array_mut().context("an operator has variables")?;
    for variable in variables.iter_mut().filter(|variable| variable["name"] == "CANOPY_INSTALLATION") {
        variable["value"] = format!("{OTHER}/second").into();
    }
    let subject = json!([{"kind": "ServiceAccount", "name": "second", "namespace": OTHER}]);
    let role =
        |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let objects = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "second", "namespace": OTHER}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": OTHER}, "roleRef": role("ClusterRole", "canopy-operator"), "subjects": subject}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": OTHER, "namespace": LEASES},
            "roleRef": role("Role", "canopy-operator-lease"), "subjects": subject}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "second", "namespace": OTHER},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "second"}},
                "template": {"metadata": {"labels": {"app": "second"}}, "spec": pod}}}),
    ];
    for object in &objects {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        apply(namespace, &object.to_string())?;
    }
    Ok(())
}
