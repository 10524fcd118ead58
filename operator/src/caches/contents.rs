//! The content of the operator's `ConfigMap`s as digests, each read once.
//!
//! Tenants may write `ConfigMap`s. Those of the operator are immutable, so other content implies another uid or
//! resource version; only then is it read again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use canopy_resource::digest::sha256;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::revision::snapshot::DataFile;

/// Key in which earlier versions stored the pod template. It is no longer read.
const POD_KEY: &str = "pod.json";

/// The content of a `ConfigMap`, as digests.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMapContent {
    /// Its metadata when it was read.
    pub metadata: ObjectMeta,
    is_immutable: bool,
    has_other_content: bool,
    /// SHA-256 of each value by key, of texts and binary values.
    digests: BTreeMap<String, String>,
}

impl ConfigMapContent {
    /// Computes the digests of `config_map`.
    pub fn of(config_map: ConfigMap) -> Self {
        let ConfigMap { metadata, immutable, binary_data, data } = config_map;
        let texts = data.into_iter().flatten().map(|(key, text)| (key, sha256(text)));
        let binary = binary_data.into_iter().flatten().map(|(key, bytes)| (key, sha256(bytes.0)));
        let mut digests: BTreeMap<_, _> = texts.chain(binary).collect();
        let has_pod = digests.remove(POD_KEY).is_some();
        Self { metadata, is_immutable: immutable == Some(true), has_other_content: has_pod, digests }
    }

    /// Whether it is immutable and contains exactly these files.
    pub fn matches(&self, files: &[DataFile]) -> bool {
        let is_there = |file: &DataFile| self.digests.get(&file.file) == Some(&file.sha256);
        self.is_immutable && self.digests.len() == files.len() && files.iter().all(is_there)
    }

    /// The digest under a key, if the `ConfigMap` is immutable.
    pub fn immutable_digest(&self, key: &str) -> Option<&String> {
        self.digests.get(key).filter(|_| self.is_immutable)
    }

    /// The first key.
    pub fn first_key(&self) -> Option<&String> {
        self.digests.keys().next()
    }

    /// Whether it has content that this version does not write. It cannot be removed from an immutable `ConfigMap`.
    pub fn has_other_content(&self) -> bool {
        self.has_other_content
    }

    /// Whether it was read from the object with this metadata.
    fn is_of(&self, metadata: &ObjectMeta) -> bool {
        let identity = |of: &ObjectMeta| (of.uid.clone(), of.resource_version.clone());
        identity(&self.metadata) == identity(metadata)
    }
}

/// Cached contents by namespace and name.
#[derive(Debug, Default)]
pub struct ContentCache(Mutex<HashMap<(String, String), ConfigMapContent>>);

impl ContentCache {
    /// The content of an object that was last observed with this metadata, if cached.
    pub fn get(&self, namespace: &str, name: &str, seen: &ObjectMeta) -> Option<ConfigMapContent> {
        let all = self.all();
        all.get(&(namespace.to_owned(), name.to_owned())).filter(|content| content.is_of(seen)).cloned()
    }

    /// Caches the content of an object.
    pub fn put(&self, namespace: &str, name: &str, content: ConfigMapContent) {
        self.all().insert((namespace.to_owned(), name.to_owned()), content);
    }

    /// Number of cached objects.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes objects that do not satisfy `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str, &str) -> bool) {
        self.all().retain(|(namespace, name), _| is_there(namespace, name));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(String, String), ConfigMapContent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
