//! The `ControllerRevision` that keeps what a revision is made from.
//!
//! Kubernetes lets nobody change its data, and the built-in role `edit` may not write one.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

use crate::children::meta::OwnerInfo;
use crate::labels::{Labels, SPEC_DIGEST};
use crate::revision::snapshot::Snapshot;

/// Kubernetes asks for a number; the order of a model's revisions is not kept here.
const NUMBER: i64 = 1;

/// What a revision is made from, and what it means.
pub fn build(
    owner: OwnerInfo<'_>,
    revision: &str,
    labels: Labels,
    (snapshot, spec_digest): (&Snapshot, Option<&String>),
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
