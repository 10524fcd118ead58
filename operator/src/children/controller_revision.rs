//! The `ControllerRevision` that stores the snapshot of a revision.
//!
//! Kubernetes does not allow changes of its data, and the built-in role `edit` cannot write it.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

use crate::children::meta::OwnerInfo;
use crate::labels::{Labels, SPEC_DIGEST};
use crate::revision::snapshot::Snapshot;

/// The field is required; Canopy does not use the order.
const NUMBER: i64 = 1;

/// The `ControllerRevision` of a revision, annotated with its spec digest.
pub fn build(
    owner: OwnerInfo<'_>,
    revision: &str,
    labels: Labels,
    snapshot: &Snapshot,
    spec_digest: Option<&String>,
) -> ControllerRevision {
    let spec_digest = spec_digest.map(|spec_digest| (SPEC_DIGEST.to_owned(), spec_digest.clone()));
    ControllerRevision {
        metadata: owner.child(
            owner.name.revision_object(revision),
            labels,
            spec_digest.into_iter().collect(),
        ),
        data: RawExtension(snapshot.to_json()),
        revision: Some(NUMBER),
    }
}
