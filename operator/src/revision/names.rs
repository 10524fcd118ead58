//! Names of revisions: a spec with the same meaning keeps the name of its revision.
//!
//! Earlier versions named revisions by the spelling of the spec. Such a revision keeps its name after an upgrade; a
//! new revision is named by its spec digest.

use std::collections::{BTreeMap, BTreeSet};

use canopy_resource::revision;

use crate::revision::snapshot::Snapshot;

/// The names of the revisions of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevisionNames {
    /// Revision names by spec digest.
    by_digest: BTreeMap<String, String>,
    /// Names of revisions without a known spec digest.
    legacy_names: BTreeSet<String>,
}

impl RevisionNames {
    /// Collects the names of the revisions in `existing`, in the snapshots and in the status. If two revisions have
    /// the same spec digest, the serving one wins.
    pub fn new<'a>(
        snapshots: &'a BTreeMap<String, Snapshot>,
        existing: impl Iterator<Item = &'a str>,
        in_status: &[&'a Option<String>],
    ) -> Self {
        let mut names = Self::default();
        let serving = in_status.iter().find_map(|name| name.as_deref());
        let spec_digest = |revision: &str| snapshots.get(revision)?.spec_digest.clone();
        for revision in serving.into_iter().chain(snapshots.keys().map(String::as_str)) {
            if let Some(spec_digest) = spec_digest(revision) {
                names.by_digest.entry(spec_digest).or_insert_with(|| revision.to_owned());
            }
        }
        let in_status = in_status.iter().filter_map(|name| name.as_deref());
        let all = existing.chain(in_status).chain(snapshots.keys().map(String::as_str));
        names.legacy_names = all.filter(|name| spec_digest(name).is_none()).map(str::to_owned).collect();
        names
    }

    /// The name of the revision with this spec digest. `legacy_name` is the name that Canopy 0.1 would have given it.
    pub fn resolve(&self, spec_digest: &str, legacy_name: &str) -> String {
        let known = self.by_digest.get(spec_digest).cloned();
        let legacy_name = || self.legacy_names.get(legacy_name).cloned();
        known.or_else(legacy_name).unwrap_or_else(|| revision::name_of(spec_digest))
    }
}
