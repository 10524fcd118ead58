//! What objects were when the operator last knew them to be as they should: what is otherwise later was changed by
//! somebody else.
//!
//! Comes in: objects that are as they should be, and the wish to write one that is not. Goes out: whether somebody is to
//! be told of a repair. Never: a decision what to write; all this is lost with the process, and only Events hang on it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::core::ObjectMeta;
use serde_json::Value;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalChange {
    /// It differed from what it had been.
    Changed,
    /// It was gone.
    Deleted,
    /// Another of its name, with other content, was in its place.
    Replaced,
}

/// An object that was written again because somebody else had changed or deleted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What had happened to it.
    pub change: ExternalChange,
}

/// All marks, by the uid of the model.
#[derive(Debug, Default)]
pub struct AppliedRecords(Mutex<OfModels>);

type OfModels = HashMap<String, HashMap<(String, String), AppliedRecord>>;

#[derive(Clone, Debug)]
struct AppliedRecord {
    /// Of what it should be.
    digest: u64,
    uid: String,
    version: u64,
    /// Which a change of the spec moves on, and a change of the status does not; not every kind has it.
    generation: Option<i64>,
}

impl AppliedRecords {
    /// An object of a model is as `wanted`, with this metadata.
    pub fn record_applied(&self, model: &str, of: (&str, &str), manifest: &Value, live: &ObjectMeta) {
        let record = AppliedRecord {
            digest: digest(manifest),
            uid: live.uid.clone().unwrap_or_default(),
            version: version(live),
            generation: live.generation,
        };
        let mut all = self.all();
        let of_model = all.entry(model.to_owned()).or_default();
        of_model.insert((of.0.to_owned(), of.1.to_owned()), record);
    }

    /// Whether an object that is `seen` so has not been changed since it was last written, or known, to be as `wanted`. What
    /// the API server made of that write is as good as it gets: another one would change nothing.
    pub fn is_unchanged(&self, model: &str, of: (&str, &str), manifest: &Value, seen: &ObjectMeta) -> bool {
        let all = self.all();
        let record = all.get(model).and_then(|of_model| of_model.get(&(of.0.to_owned(), of.1.to_owned())));
        record.is_some_and(|record| {
            let is_same = record.digest == digest(manifest) && seen.uid.as_deref() == Some(&record.uid);
            let has_same_spec = seen.generation.is_some() && seen.generation == record.generation;
            is_same && (has_same_spec || version(seen) <= record.version)
        })
    }

    /// An object of a model is not to be there any more.
    pub fn forget_child(&self, model: &str, of: (&str, &str)) {
        if let Some(of_model) = self.all().get_mut(model) {
            of_model.remove(&(of.0.to_owned(), of.1.to_owned()));
        }
    }

    /// An object that was `seen` so, or not at all, was `written` as `wanted`: what had happened to it, if it had been
    /// as wanted before. A watch may lag behind the operator's own writes, which is no harm.
    pub fn external_change(
        &self,
        model: &str,
        of: (&str, &str),
        manifest: &Value,
        (seen, written): (Option<&ObjectMeta>, &ObjectMeta),
    ) -> Option<ExternalChange> {
        let all = self.all();
        let record = all.get(model)?.get(&(of.0.to_owned(), of.1.to_owned()))?;
        if record.digest != digest(manifest) {
            return None;
        }
        match seen {
            None => (written.uid.as_deref() != Some(&record.uid)).then_some(ExternalChange::Deleted),
            Some(seen) => {
                let is_later = version(seen) > record.version && version(written) > version(seen);
                is_later.then_some(ExternalChange::Changed)
            }
        }
    }

    /// Of how many models there are marks.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets models that are gone.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|model, _| is_there(model));
    }

    fn all(&self) -> MutexGuard<'_, OfModels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two versions of a kind of object are one after the other can be told since Kubernetes says that they are
/// numbers which grow.
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

    const OF: (&str, &str) = ("Service", "iris");

    fn meta(uid: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn marked() -> AppliedRecords {
        let applied_records = AppliedRecords::default();
        applied_records.record_applied("m", OF, &json!(1), &meta("a", 5));
        applied_records
    }

    #[test]
    fn what_was_as_wanted_and_is_otherwise_later_was_changed() {
        let change = |manifest: u8, seen: u64, written: u64| {
            let (seen, written) = (meta("a", seen), meta("a", written));
            marked().external_change("m", OF, &json!(manifest), (Some(&seen), &written))
        };
        assert_eq!(change(1, 7, 8), Some(ExternalChange::Changed));
        assert_eq!(change(2, 7, 8), None, "it should be another now");
        assert_eq!(change(1, 4, 5), None, "the watch has not shown the operator's own write yet");
        assert_eq!(change(1, 7, 7), None, "nothing was changed by writing");
    }

    #[test]
    fn what_was_there_and_had_to_be_made_anew_was_deleted() {
        let change = |uid: &str| marked().external_change("m", OF, &json!(1), (None, &meta(uid, 9)));
        assert_eq!(change("b"), Some(ExternalChange::Deleted));
        assert_eq!(change("a"), None, "the watch has not shown it yet");
        let applied_records = marked();
        applied_records.forget_child("m", OF);
        let change = applied_records.external_change("m", OF, &json!(1), (None, &meta("b", 9)));
        assert_eq!(change, None, "the operator itself had removed it");
        assert_eq!(
            AppliedRecords::default().external_change("m", OF, &json!(1), (None, &meta("a", 9))),
            None,
            "it is new"
        );
    }

    #[test]
    fn a_write_is_not_repeated_before_another_one() {
        let of = |generation: Option<i64>, version: u64| ObjectMeta { generation, ..meta("a", version) };
        let applied_records = AppliedRecords::default();
        applied_records.record_applied("m", OF, &json!(1), &of(Some(3), 5));
        let is_unchanged =
            |manifest: u8, seen: &ObjectMeta| applied_records.is_unchanged("m", OF, &json!(manifest), seen);
        assert!(is_unchanged(1, &of(Some(3), 5)), "it is as it was written");
        assert!(is_unchanged(1, &of(Some(3), 9)), "only its status is another");
        assert!(is_unchanged(1, &of(Some(2), 4)), "the watch has not shown the write yet");
        assert!(!is_unchanged(1, &of(Some(4), 6)), "its spec is another");
        assert!(!is_unchanged(1, &of(None, 6)));
        assert!(!is_unchanged(2, &of(Some(3), 5)), "it should be another now");
        assert!(
            !is_unchanged(1, &ObjectMeta { uid: Some("b".to_owned()), ..of(Some(3), 5) }),
            "it was made anew"
        );
        assert!(
            !AppliedRecords::default().is_unchanged("m", OF, &json!(1), &of(Some(3), 5)),
            "nothing is known of it"
        );
    }

    #[test]
    fn models_that_are_gone_are_forgotten() {
        let applied_records = marked();
        applied_records.retain(|model| model != "m");
        assert!(applied_records.is_empty());
    }
}
