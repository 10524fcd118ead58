//! The `ControllerRevision` that keeps what a revision is made from.
//!
//! Kubernetes lets nobody change its data, and the built-in role `edit` may not write one.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

use crate::children::meta::Family;
use crate::labels::{Labels, MEANING};
use crate::revision::snapshot::Frozen;

/// Kubernetes asks for a number; the order of a model's revisions is not kept here.
const NUMBER: i64 = 1;

/// What a revision is made from, and what it means.
pub fn snapshot(
    family: Family<'_>,
    revision: &str,
    labels: Labels,
    (frozen, meaning): (&Frozen, Option<&String>),
) -> ControllerRevision {
    let meaning = meaning.map(|meaning| (MEANING.to_owned(), meaning.clone()));
    ControllerRevision {
        metadata: family.child(family.name.revision_object(revision), labels, meaning.into_iter().collect()),
        data: RawExtension(frozen.written()),
        revision: Some(NUMBER),
    }
}
