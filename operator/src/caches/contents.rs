//! What is in the operator's own `ConfigMap`s, as digests, each read once.
//!
//! Tenants may write `ConfigMap`s. Those of the operator are immutable, so other content is another object, with another
//! uid and version; only then it is read again. All this is lost with the process, and read anew by the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use canopy_resource::revision::sha256;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What an earlier operator kept beside the serving config. Nothing reads it any more.
const POD_KEY: &str = "pod.json";

/// What is in a `ConfigMap`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMapContent {
    /// Its metadata, when it was read.
    pub metadata: ObjectMeta,
    is_immutable: bool,
    has_other_content: bool,
    /// The SHA-256 of each text, by its key.
    texts: BTreeMap<String, String>,
}

impl ConfigMapContent {
    /// What is in `config_map`.
    pub fn of(config_map: ConfigMap) -> Self {
        let ConfigMap { metadata, immutable, binary_data, data } = config_map;
        let mut texts: BTreeMap<_, _> =
            data.into_iter().flatten().map(|(key, text)| (key, sha256(&text))).collect();
        let has_pod = texts.remove(POD_KEY).is_some();
        Self {
            metadata,
            is_immutable: immutable == Some(true),
            has_other_content: has_pod || binary_data.is_some_and(|data| !data.is_empty()),
            texts,
        }
    }

    /// Whether pods find exactly this text under this key, and always will.
    pub fn matches(&self, key: &str, sha256: &str) -> bool {
        let is_alone = self.texts.len() == 1 && self.texts.get(key).is_some_and(|found| found == sha256);
        is_alone && self.is_immutable
    }

    /// The digest of the text under a key, where it can never be another.
    pub fn immutable_digest(&self, key: &str) -> Option<&String> {
        self.texts.get(key).filter(|_| self.is_immutable)
    }

    /// The first key.
    pub fn first_key(&self) -> Option<&String> {
        self.texts.keys().next()
    }

    /// Whether there is more in it than an operator of today writes. It cannot be taken out of an immutable object.
    pub fn has_other_content(&self) -> bool {
        self.has_other_content
    }

    /// Whether it was read from the object with this metadata.
    fn is_of(&self, metadata: &ObjectMeta) -> bool {
        let identity = |of: &ObjectMeta| (of.uid.clone(), of.resource_version.clone());
        identity(&self.metadata) == identity(metadata)
    }
}

/// What was read, by namespace and name.
#[derive(Debug, Default)]
pub struct ContentCache(Mutex<HashMap<(String, String), ConfigMapContent>>);

impl ContentCache {
    /// What is in the object that was last seen so, where that was read.
    pub fn get(&self, (namespace, name): (&str, &str), seen: &ObjectMeta) -> Option<ConfigMapContent> {
        let all = self.all();
        all.get(&(namespace.to_owned(), name.to_owned())).filter(|content| content.is_of(seen)).cloned()
    }

    /// An object was read.
    pub fn put(&self, (namespace, name): (&str, &str), content: ConfigMapContent) {
        self.all().insert((namespace.to_owned(), name.to_owned()), content);
    }

    /// How many objects were read.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets objects that are gone.
    pub fn retain(&self, is_there: impl Fn(&str, &str) -> bool) {
        self.all().retain(|(namespace, name), _| is_there(namespace, name));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<(String, String), ConfigMapContent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
