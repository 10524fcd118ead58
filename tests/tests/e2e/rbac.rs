//! The rights of tenants to models, by Kubernetes' own roles.

use anyhow::{Result, ensure};
use canopy_tests::namespace::{Namespace, in_namespace};
use canopy_tests::wait::until;

use crate::canopy::shared;
use crate::model::TIMEOUT;

/// Whether a user may do something with models of the namespace, or with a subresource of them.
fn may(namespace: &Namespace, user: &str, verb: &str, part: &str) -> bool {
    let part = format!("--subresource={part}");
    // Its exit code says no.
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
            ensure!(!may(namespace, user, "patch", "status"), "{user} may write what only the operator says");
        }
        Ok(())
    })
    .await
}
