//! The Deployment of a revision. Its template never changes: another template is another revision.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::children::meta::OwnerInfo;
use crate::labels::Labels;
use crate::revision::snapshot::Snapshot;

/// The Deployment of a revision.
pub fn build(
    owner: OwnerInfo<'_>,
    revision: &str,
    labels: Labels,
    snapshot: &Snapshot,
    replicas: i32,
) -> Deployment {
    Deployment {
        metadata: owner.child(owner.name.revision_object(revision), labels, BTreeMap::new()),
        spec: DeploymentSpec {
            replicas: Some(replicas),
            // The template never changes, so there is nothing to roll back to.
            revision_history_limit: Some(0),
            selector: LabelSelector {
                match_labels: Some(owner.pods_of(revision)),
                ..LabelSelector::default()
            },
            template: snapshot.template.clone(),
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}
