//! The immutable `ConfigMap`s of a revision: how it serves, and a copy of its data.
//!
//! Comes in: what was frozen, or a file's name and text. Goes out: `ConfigMap`s. Never: one that can be changed;
//! a pod that starts again must be what it was.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::children::meta::OwnerInfo;
use crate::labels::Labels;
use crate::pod::template::SERVING_KEY;
use crate::revision::snapshot::Snapshot;

/// How it serves, as its pods read it.
pub fn serving(owner: OwnerInfo<'_>, revision: &str, labels: Labels, snapshot: &Snapshot) -> ConfigMap {
    let data = [(SERVING_KEY.to_owned(), snapshot.serving.clone())];
    immutable(owner, owner.name.revision_object(revision), labels, data.into())
}

/// A copy of its data.
pub fn data(owner: OwnerInfo<'_>, revision: &str, labels: Labels, file: (&String, &String)) -> ConfigMap {
    let (name, text) = file;
    let data = [(name.clone(), text.clone())];
    immutable(owner, owner.name.data_object(revision), labels, data.into())
}

fn immutable(
    owner: OwnerInfo<'_>,
    name: String,
    labels: Labels,
    data: BTreeMap<String, String>,
) -> ConfigMap {
    ConfigMap {
        metadata: owner.child(name, labels, BTreeMap::new()),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
