//! The rights to models in Kubernetes' built-in roles, and the rights of the operator.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::create_at;
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;
use serde_json::{Value, json};

use crate::canopy::{SYSTEM, shared};
use crate::chart_values::{objects, render};
use crate::model::TIMEOUT;

/// A namespace without models.
const ELSEWHERE: &str = "default";

/// Rights that an operator needs in the namespaces of its models, as API group, resource and verb.
const WRITES: [(&str, &str, &str); 7] = [
    ("", "configmaps", "create"),
    ("", "services", "patch"),
    ("apps", "controllerrevisions", "create"),
    ("apps", "deployments", "delete"),
    ("networking.k8s.io", "networkpolicies", "patch"),
    ("policy", "poddisruptionbudgets", "create"),
    ("canopy.rs", "predictormodels/status", "patch"),
];

/// Whether a user may do something with models of the namespace, or with a subresource of them.
fn may(namespace: &Namespace, user: &str, verb: &str, part: &str) -> bool {
    let part = format!("--subresource={part}");
    // It exits with an error if the answer is no.
    namespace.kubectl(&["auth", "can-i", verb, "predictormodels.canopy.rs", &part, "--as", user]).is_ok()
}

#[tokio::test]
async fn viewers_read_models_and_editors_change_them_but_not_their_status() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-rights", async |namespace| {
        for (user, role) in [("e2e-vera", "view"), ("e2e-edda", "edit"), ("e2e-ada", "admin")] {
            namespace.kubectl(&["create", "rolebinding", user, "--clusterrole", role, "--user", user])?;
        }
        until("the roles to have rights to models", TIMEOUT, async || {
            for (user, verb) in [("e2e-vera", "watch"), ("e2e-edda", "create"), ("e2e-ada", "delete")] {
                ensure!(may(namespace, user, verb, ""), "{user} may not {verb} models");
            }
            Ok(())
        })
        .await?;
        ensure!(may(namespace, "e2e-edda", "patch", "scale"), "an editor cannot scale models");
        for verb in ["create", "patch", "delete"] {
            ensure!(!may(namespace, "e2e-vera", verb, ""), "a viewer may {verb} models");
        }
        for user in ["e2e-vera", "e2e-edda", "e2e-ada"] {
            ensure!(
                !may(namespace, user, "patch", "status"),
                "{user} may write the status of models, which only the operator may do"
            );
        }
        Ok(())
    })
    .await
}

/// Whether the service account of an operator has a right, by a `SubjectAccessReview`. The empty namespace stands for all.
fn operator_may(of: &str, namespace: &str, (group, resource, verb): (&str, &str, &str)) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{of}:canopy-operator"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{of}"), "system:authenticated"],
            "resourceAttributes": {
                "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            },
        },
    });
    let answer = create_at("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)?;
    let answer: Value = serde_json::from_str(&answer)?;
    answer["status"]["allowed"].as_bool().with_context(|| format!("expected a review, got {answer}"))
}

#[tokio::test]
async fn the_operator_may_list_and_watch_endpoint_slices_but_not_write_them() -> Result<()> {
    let _lock = shared().await?;
    let slices = |verb| ("discovery.k8s.io", "endpointslices", verb);
    for verb in ["list", "watch"] {
        ensure!(operator_may(SYSTEM, "", slices(verb))?, "the operator may not {verb} endpointslices");
    }
    let writes = ["create", "update", "patch", "delete", "deletecollection"].map(slices);
    let others =
        [("", "secrets", "get"), ("", "secrets", "list"), ("", "pods", "create"), ("", "pods", "delete")];
    for right in writes.into_iter().chain(others) {
        for namespace in ["", SYSTEM, ELSEWHERE] {
            ensure!(!operator_may(SYSTEM, namespace, right)?, "the operator has {right:?} in {namespace:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_of_one_namespace_may_write_there_and_not_elsewhere() -> Result<()> {
    let _lock = shared().await?;
    in_namespace("e2e-limited", async |namespace| {
        // The release is also in this namespace, so its operator is not the installed one.
        let limited = format!("operator.namespaces={{{}}}", namespace.name);
        let rendered = objects(&render(&["--namespace", &namespace.name, "--set", &limited])?)?;
        let cluster_wide = rendered.iter().find(|object| object["kind"] == "ClusterRoleBinding");
        ensure!(cluster_wide.is_none(), "{cluster_wide:?}");
        let is_own = |object: &&Value| {
            let is_role = object["kind"] == "Role" || object["kind"] == "RoleBinding";
            is_role && object["metadata"]["namespace"] == namespace.name.as_str()
        };
        let roles: Vec<_> = rendered.iter().filter(is_own).collect();
        ensure!(roles.len() == 2, "expected a Role and a RoleBinding, got {roles:?}");
        let may =
            |namespace_of_models: &str, right| operator_may(&namespace.name, namespace_of_models, right);
        for right in WRITES {
            ensure!(!may(&namespace.name, right)?, "the operator has {right:?} before its Role exists");
        }
        namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": roles}).to_string())?;
        until("the rights of the operator", TIMEOUT, async || {
            for right in WRITES {
                ensure!(may(&namespace.name, right)?, "the operator lacks {right:?}");
            }
            Ok(())
        })
        .await?;
        for right in
            WRITES.into_iter().chain([("canopy.rs", "predictormodels", "list"), ("", "pods", "watch")])
        {
            for other in ["", SYSTEM, ELSEWHERE] {
                ensure!(!may(other, right)?, "the operator has {right:?} in {other:?}");
            }
        }
        Ok(())
    })
    .await
}
