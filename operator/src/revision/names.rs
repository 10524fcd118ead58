//! The names of the revisions that a model has, so that a spec which means the same keeps the name it has.
//!
//! An earlier operator named revisions by the spelling of the spec. Such a revision keeps its name after an upgrade;
//! a new revision is named by its meaning.

use std::collections::{BTreeMap, BTreeSet};

use canopy_resource::revision;

use crate::revision::snapshot::Frozen;

/// The names that a model's revisions have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// By what they mean.
    by_meaning: BTreeMap<String, String>,
    /// Of those whose meaning was not written down.
    spelled: BTreeSet<String>,
}

impl Names {
    /// The names of the revisions that are `there`, and of those that the status speaks of. Where two have one meaning,
    /// the one that serves comes first.
    pub fn new<'a>(
        frozen: &'a BTreeMap<String, Frozen>,
        there: impl Iterator<Item = &'a str>,
        spoken_of: &[&'a Option<String>],
    ) -> Self {
        let mut names = Self::default();
        let serving = spoken_of.iter().find_map(|name| name.as_deref());
        let meaning = |revision: &str| frozen.get(revision)?.meaning.clone();
        for revision in serving.into_iter().chain(frozen.keys().map(String::as_str)) {
            if let Some(meaning) = meaning(revision) {
                names.by_meaning.entry(meaning).or_insert_with(|| revision.to_owned());
            }
        }
        let spoken_of = spoken_of.iter().filter_map(|name| name.as_deref());
        let all = there.chain(spoken_of).chain(frozen.keys().map(String::as_str));
        names.spelled = all.filter(|name| meaning(name).is_none()).map(str::to_owned).collect();
        names
    }

    /// The name of the revision with this meaning, which Canopy 0.1 would have called `legacy`.
    pub fn of(&self, meaning: &str, legacy: &str) -> String {
        let known = self.by_meaning.get(meaning).cloned();
        let spelled = || self.spelled.get(legacy).cloned();
        known.or_else(spelled).unwrap_or_else(|| revision::name_of(meaning))
    }
}
