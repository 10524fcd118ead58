//! The `ConfigMap`s of a revision: its serving config and a copy of its data.
//!
//! They are immutable, so that a restarted pod reads the same content.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::children::meta::OwnerInfo;
use crate::labels::Labels;
use crate::pod::template::SERVING_KEY;
use crate::revision::snapshot::Snapshot;

/// The `ConfigMap` with the serving config.
pub fn serving(owner: OwnerInfo<'_>, revision: &str, labels: Labels, snapshot: &Snapshot) -> ConfigMap {
    let data = [(SERVING_KEY.to_owned(), snapshot.serving.clone())];
    immutable(owner, owner.name.revision_object(revision), labels, data.into())
}

/// The `ConfigMap` with a copy of the data.
pub fn data(owner: OwnerInfo<'_>, revision: &str, labels: Labels, name: &str, text: &str) -> ConfigMap {
    let data = [(name.to_owned(), text.to_owned())];
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
