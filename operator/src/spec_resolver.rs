//! What each model means, worked out again only where its spec or its data changed.
//!
//! Users' `ConfigMap`s hold up to a megabyte each. One is read when a model first refers to it and when the watch of
//! metadata shows another uid or version of it, not in every pass; its text is not kept.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::{PredictorModel, PredictorModelSpec, RESTARTED_AT};
use canopy_resource::plan::Refusal;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::api::call::CallError;
use crate::apply::cluster::Cluster;
use crate::labels::MODEL_UID;
use crate::spec::{ResolvedSpec, TrainingData};

/// What each model means, by its uid.
#[derive(Clone, Debug, Default)]
pub struct SpecResolver(Arc<Mutex<CacheState>>);

#[derive(Debug, Default)]
struct CacheState {
    cached: HashMap<String, CachedSpec>,
    /// The users' `ConfigMap`s that a new list of them has shown so far.
    listed: Option<BTreeSet<Name>>,
}

/// A namespace and a name.
type Name = (String, String);
/// A uid and a version.
type Version = (Option<String>, Option<String>);

#[derive(Clone, Debug)]
struct CachedSpec {
    spec: PredictorModelSpec,
    restarted_at: Option<String>,
    /// Where the data come from.
    source: Option<Name>,
    /// Nothing while they are being read: an event that comes meanwhile removes this entry.
    resolved: Option<(Version, Result<ResolvedSpec, Refusal>)>,
}

impl SpecResolver {
    /// What `model` means. The text of the data is there only where they had to be read for it.
    pub async fn resolve(
        &self,
        model: &PredictorModel,
        cluster: &Cluster,
    ) -> Result<Result<ResolvedSpec, Refusal>, CallError> {
        let uid = model.uid().unwrap_or_default();
        let source = source(model);
        let restarted_at = model.annotations().get(RESTARTED_AT).cloned();
        let spec = revision_inputs(&model.spec);
        let is_same = |cached: &&CachedSpec| cached.spec == spec && cached.restarted_at == restarted_at;
        if let Some((_, resolved)) =
            self.state().cached.get(&uid).filter(is_same).and_then(|k| k.resolved.clone())
        {
            return Ok(resolved);
        }
        let asked = CachedSpec { spec, restarted_at, source: source.clone(), resolved: None };
        self.state().cached.insert(uid.clone(), asked);

        let mut config_maps = ConfigMaps::default();
        let mut version = Some(Version::default());
        if let Some((namespace, name)) = &source {
            let found = cluster.read_config_map(namespace, name).await?;
            // No event tells of one that is not there yet, and none of one that carries the operator's own label.
            version = found.as_ref().filter(|found| !found.labels().contains_key(MODEL_UID)).map(version_of);
            // One alone is never given twice.
            drop(found.map(|found| config_maps.add(found)));
        }
        let resolved = ResolvedSpec::new(model, &config_maps);
        if let Some(cached) = self.state().cached.get_mut(&uid).filter(|cached| cached.source == source) {
            cached.resolved = version.map(|version| (version, without_text(resolved.clone())));
        }
        Ok(resolved)
    }

    /// Forgets what a model means, so that its data are read again.
    pub fn forget(&self, model: &PredictorModel) {
        self.state().cached.remove(&model.uid().unwrap_or_default());
    }

    /// Forgets models that are gone.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.state().cached.retain(|uid, _| is_known(uid));
    }

    /// A new list of users' `ConfigMap`s begins.
    pub fn list_started(&self) {
        self.state().listed = Some(BTreeSet::new());
    }

    /// A user's `ConfigMap` is there, in this version.
    pub fn config_map_seen(&self, metadata: &ObjectMeta) {
        let (name, version) = (name_of(metadata), version_of_metadata(metadata));
        let mut state = self.state();
        state.cached.retain(|_, cached| {
            cached.source.as_ref() != Some(&name)
                || cached.resolved.as_ref().is_some_and(|(version_read, _)| *version_read == version)
        });
        if let Some(listed) = &mut state.listed {
            listed.insert(name);
        }
    }

    /// A user's `ConfigMap` is gone.
    pub fn config_map_deleted(&self, metadata: &ObjectMeta) {
        let name = name_of(metadata);
        self.state().cached.retain(|_, cached| cached.source.as_ref() != Some(&name));
    }

    /// The list is complete: what was not in it is gone.
    pub fn list_finished(&self) {
        let mut state = self.state();
        if let Some(listed) = state.listed.take() {
            state
                .cached
                .retain(|_, cached| cached.source.as_ref().is_none_or(|source| listed.contains(source)));
        }
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spec without what only says how many pods there are, and when they go.
fn revision_inputs(spec: &PredictorModelSpec) -> PredictorModelSpec {
    PredictorModelSpec { replicas: None, retire_seconds: None, paused: None, ..spec.clone() }
}

/// The `ConfigMap` that a model's data come from.
fn source(model: &PredictorModel) -> Option<Name> {
    let source = &model.spec.train.data.csv.as_ref()?.source;
    Some((model.namespace().unwrap_or_default(), source.config_map.as_ref()?.name.clone()))
}

fn name_of(metadata: &ObjectMeta) -> Name {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn version_of(config_map: &ConfigMap) -> Version {
    version_of_metadata(config_map.meta())
}

fn version_of_metadata(metadata: &ObjectMeta) -> Version {
    (metadata.uid.clone(), metadata.resource_version.clone())
}

fn without_text(resolved: Result<ResolvedSpec, Refusal>) -> Result<ResolvedSpec, Refusal> {
    resolved.map(|resolved| ResolvedSpec {
        data: resolved.data.map(|data| TrainingData { text: None, ..data }),
        ..resolved
    })
}
