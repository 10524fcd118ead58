//! The `ConfigMap`s of a revision: its serving config and copies of its files.
//!
//! They are immutable, so that a restarted pod reads the same content.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::children::meta::OwnerInfo;
use crate::labels::Labels;
use crate::pod::template::SERVING_KEY;
use crate::revision::snapshot::Snapshot;

/// The `ConfigMap` with the serving config.
pub fn serving(owner: OwnerInfo<'_>, revision: &str, labels: Labels, snapshot: &Snapshot) -> ConfigMap {
    let config_map = immutable(owner, owner.name.revision_object(revision), labels);
    ConfigMap { data: Some([(SERVING_KEY.to_owned(), snapshot.serving.clone())].into()), ..config_map }
}

/// The `ConfigMap` with copies of files, by name. Text is under `data`, any other content under `binaryData`.
pub fn data(owner: OwnerInfo<'_>, revision: &str, labels: Labels, files: &[(&str, &[u8])]) -> ConfigMap {
    let (mut texts, mut binary) = (BTreeMap::new(), BTreeMap::new());
    for (name, content) in files {
        match str::from_utf8(content) {
            Ok(text) => drop(texts.insert((*name).to_owned(), text.to_owned())),
            Err(_) => drop(binary.insert((*name).to_owned(), ByteString(content.to_vec()))),
        }
    }
    ConfigMap {
        data: (!texts.is_empty()).then_some(texts),
        binary_data: (!binary.is_empty()).then_some(binary),
        ..immutable(owner, owner.name.data_object(revision), labels)
    }
}

fn immutable(owner: OwnerInfo<'_>, name: String, labels: Labels) -> ConfigMap {
    ConfigMap {
        metadata: owner.child(name, labels, BTreeMap::new()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
