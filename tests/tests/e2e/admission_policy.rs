//! An admission policy that refuses a new revision: the serving revision is repaired and scaled as before.

use anyhow::{Result, ensure};
use canopy_tests::cleanup::with_cleanup;
use canopy_tests::kubernetes::{apply, kubectl};
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;
use serde_json::json;

use crate::canopy::shared;
use crate::model::{Model, TIMEOUT, revision, small};

/// The policy that refuses new Deployments.
const POLICY: &str = "e2e-blocked";

#[tokio::test]
async fn while_a_policy_refuses_a_candidate_the_serving_revision_is_repaired_and_scaled() -> Result<()> {
    let _lock = shared().await?;
    delete_policy()?;
    let test = in_namespace("e2e-blocked", async |namespace| {
        namespace.apply(&small("tiny", &json!({"replicas": 1})))?;
        let tiny = Model { namespace, name: "tiny" };
        let serving = revision(&tiny.ready()?)?;
        refuse_deployments(namespace).await?;

        tiny.patch(&json!({"version": "2.0"}))?;
        let message = tiny.condition_with("Ready", "False", "ApplyRefused", &["Deployment"]).await?;
        tiny.has_event("ApplyRefused", &message).await?;
        tiny.condition("Available", "True", "Serving").await?;

        tiny.scale(2)?;
        tiny.has_pods(&serving, 2).await?;
        for service in ["tiny", "tiny-pods"] {
            namespace.kubectl(&["delete", "service", service])?;
            until("the Service to be there again", TIMEOUT, async || {
                namespace.kubectl(&["get", "service", service]).map(drop)
            })
            .await?;
        }
        tiny.condition("Available", "True", "Serving").await?;

        delete_policy()?;
        let new = revision(&tiny.ready()?)?;
        ensure!(new != serving, "revision {serving} still serves");
        Ok(())
    });
    with_cleanup(test, async || delete_policy()).await
}

/// Returns when the API server refuses new Deployments in `namespace`.
async fn refuse_deployments(namespace: &Namespace) -> Result<()> {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": POLICY},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
            "resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["deployments"]}],
        },
        "validations": [{"expression": "false", "message": "no new Deployments here"}],
    }});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY}, "spec": {"policyName": POLICY, "validationActions": ["Deny"]}});
    apply("default", &policy.to_string())?;
    apply("default", &binding.to_string())?;
    until("the policy to be in force", TIMEOUT, async || {
        let made =
            namespace.kubectl(&["create", "deployment", "probe", "--image", "probe", "--dry-run=server"]);
        let refused = made.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("no new Deployments here"), "{refused}");
        Ok(())
    })
    .await
}

fn delete_policy() -> Result<()> {
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        kubectl(&["delete", kind, POLICY, "--ignore-not-found"])?;
    }
    Ok(())
}
