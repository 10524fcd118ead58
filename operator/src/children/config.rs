//! The immutable `ConfigMap`s of a revision: how it serves, and a copy of its data.
//!
//! Comes in: what was frozen, or a file's name and text. Goes out: `ConfigMap`s. Never: one that can be changed;
//! a pod that starts again must be what it was.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::children::meta::Family;
use crate::labels::Labels;
use crate::pod::template::SERVING_KEY;
use crate::revision::snapshot::Frozen;

/// How it serves, as its pods read it.
pub fn serving(family: Family<'_>, revision: &str, labels: Labels, frozen: &Frozen) -> ConfigMap {
    let data = [(SERVING_KEY.to_owned(), frozen.serving.clone())];
    immutable(family, family.name.revision_object(revision), labels, data.into())
}

/// A copy of its data.
pub fn data(family: Family<'_>, revision: &str, labels: Labels, file: (&String, &String)) -> ConfigMap {
    let (name, text) = file;
    let data = [(name.clone(), text.clone())];
    immutable(family, family.name.data_object(revision), labels, data.into())
}

fn immutable(family: Family<'_>, name: String, labels: Labels, data: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata: family.child(name, labels, BTreeMap::new()),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
