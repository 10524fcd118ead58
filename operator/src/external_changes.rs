//! Detection of external changes: what objects were when they last matched their manifests.
//!
//! This only decides about Events and repeated writes. It is not persisted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::core::ObjectMeta;
use serde_json::Value;

/// How an object was changed outside the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalChange {
    /// It was modified.
    Changed,
    /// It was deleted.
    Deleted,
    /// It was replaced by an object of the same name with other content.
    Replaced,
}

/// An object that was restored after an external change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How it was changed.
    pub change: ExternalChange,
}

/// A child of a model.
#[derive(Clone, Copy, Debug)]
pub struct ChildRef<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A write of an object: its metadata as last observed before, and as returned by the write.
#[derive(Clone, Copy, Debug)]
pub struct ObservedWrite<'a> {
    /// Before the write; `None` if the object did not exist.
    pub before: Option<&'a ObjectMeta>,
    /// After the write.
    pub after: &'a ObjectMeta,
}

/// Records by uid of the model.
#[derive(Debug, Default)]
pub struct AppliedRecords(Mutex<OfModels>);

type OfModels = HashMap<String, HashMap<(String, String), AppliedRecord>>;

#[derive(Clone, Debug)]
struct AppliedRecord {
    /// Digest of the manifest.
    digest: u64,
    uid: String,
    version: u64,
    /// It changes with the spec but not with the status. Not every kind has one.
    generation: Option<i64>,
}

impl AppliedRecords {
    /// Records that an object matches its manifest, with this metadata.
    pub fn record_applied(&self, model: &str, child: ChildRef<'_>, manifest: &Value, live: &ObjectMeta) {
        let record = AppliedRecord {
            digest: digest(manifest),
            uid: live.uid.clone().unwrap_or_default(),
            version: version(live),
            generation: live.generation,
        };
        let mut all = self.all();
        let of_model = all.entry(model.to_owned()).or_default();
        of_model.insert((child.kind.to_owned(), child.name.to_owned()), record);
    }

    /// Whether an object is unchanged since it was last written from, or matched, this manifest. Another write would
    /// change nothing, for example if a webhook modifies each write.
    pub fn is_unchanged(
        &self,
        model: &str,
        child: ChildRef<'_>,
        manifest: &Value,
        seen: &ObjectMeta,
    ) -> bool {
        let all = self.all();
        let record =
            all.get(model).and_then(|of_model| of_model.get(&(child.kind.to_owned(), child.name.to_owned())));
        record.is_some_and(|record| {
            let is_same = record.digest == digest(manifest) && seen.uid.as_deref() == Some(&record.uid);
            let has_same_spec = seen.generation.is_some() && seen.generation == record.generation;
            is_same && (has_same_spec || version(seen) <= record.version)
        })
    }

    /// Forgets a child that the operator deletes.
    pub fn forget_child(&self, model: &str, child: ChildRef<'_>) {
        if let Some(of_model) = self.all().get_mut(model) {
            of_model.remove(&(child.kind.to_owned(), child.name.to_owned()));
        }
    }

    /// The external change that a write has reverted, if the object had matched this manifest before. A watch may lag
    /// behind the writes of the operator; that is not an external change.
    pub fn external_change(
        &self,
        model: &str,
        child: ChildRef<'_>,
        manifest: &Value,
        write: ObservedWrite<'_>,
    ) -> Option<ExternalChange> {
        let all = self.all();
        let record = all.get(model)?.get(&(child.kind.to_owned(), child.name.to_owned()))?;
        if record.digest != digest(manifest) {
            return None;
        }
        let ObservedWrite { before: seen, after: written } = write;
        match seen {
            None => (written.uid.as_deref() != Some(&record.uid)).then_some(ExternalChange::Deleted),
            Some(seen) => {
                let is_later = version(seen) > record.version && version(written) > version(seen);
                is_later.then_some(ExternalChange::Changed)
            }
        }
    }

    /// Number of models with records.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes models that do not satisfy `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|model, _| is_there(model));
    }

    fn all(&self) -> MutexGuard<'_, OfModels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions of one kind can be compared: Kubernetes guarantees that they are increasing numbers.
fn version(of: &ObjectMeta) -> u64 {
    of.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn digest(manifest: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    manifest.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CHILD: ChildRef<'_> = ChildRef { kind: "Service", name: "iris" };

    fn meta(uid: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn marked() -> AppliedRecords {
        let applied_records = AppliedRecords::default();
        applied_records.record_applied("m", CHILD, &json!(1), &meta("a", 5));
        applied_records
    }

    #[test]
    fn an_object_that_matched_and_differs_later_was_changed() {
        let change = |manifest: u8, seen: u64, written: u64| {
            let (seen, written) = (meta("a", seen), meta("a", written));
            marked().external_change(
                "m",
                CHILD,
                &json!(manifest),
                ObservedWrite { before: Some(&seen), after: &written },
            )
        };
        assert_eq!(change(1, 7, 8), Some(ExternalChange::Changed));
        assert_eq!(change(2, 7, 8), None, "the manifest has changed");
        assert_eq!(change(1, 4, 5), None, "the watch lags behind the write of the operator");
        assert_eq!(change(1, 7, 7), None, "the write changed nothing");
    }

    #[test]
    fn an_object_that_matched_and_had_to_be_created_again_was_deleted() {
        let change = |uid: &str| {
            marked().external_change(
                "m",
                CHILD,
                &json!(1),
                ObservedWrite { before: None, after: &meta(uid, 9) },
            )
        };
        assert_eq!(change("b"), Some(ExternalChange::Deleted));
        assert_eq!(change("a"), None, "the watch lags");
        let applied_records = marked();
        applied_records.forget_child("m", CHILD);
        let change = applied_records.external_change(
            "m",
            CHILD,
            &json!(1),
            ObservedWrite { before: None, after: &meta("b", 9) },
        );
        assert_eq!(change, None, "the operator deleted it");
        assert_eq!(
            AppliedRecords::default().external_change(
                "m",
                CHILD,
                &json!(1),
                ObservedWrite { before: None, after: &meta("a", 9) }
            ),
            None,
            "it is new"
        );
    }

    #[test]
    fn a_write_is_not_repeated_until_the_object_changes() {
        let of = |generation: Option<i64>, version: u64| ObjectMeta { generation, ..meta("a", version) };
        let applied_records = AppliedRecords::default();
        applied_records.record_applied("m", CHILD, &json!(1), &of(Some(3), 5));
        let is_unchanged = |manifest: u8, seen: &ObjectMeta| {
            applied_records.is_unchanged("m", CHILD, &json!(manifest), seen)
        };
        assert!(is_unchanged(1, &of(Some(3), 5)), "it is as it was written");
        assert!(is_unchanged(1, &of(Some(3), 9)), "only the status has changed");
        assert!(is_unchanged(1, &of(Some(2), 4)), "the watch lags behind the write");
        assert!(!is_unchanged(1, &of(Some(4), 6)), "the spec has changed");
        assert!(!is_unchanged(1, &of(None, 6)));
        assert!(!is_unchanged(2, &of(Some(3), 5)), "the manifest has changed");
        assert!(
            !is_unchanged(1, &ObjectMeta { uid: Some("b".to_owned()), ..of(Some(3), 5) }),
            "it was created again"
        );
        assert!(
            !AppliedRecords::default().is_unchanged("m", CHILD, &json!(1), &of(Some(3), 5)),
            "there is no record"
        );
    }

    #[test]
    fn deleted_models_are_forgotten() {
        let applied_records = marked();
        applied_records.retain(|model| model != "m");
        assert!(applied_records.is_empty());
    }
}
