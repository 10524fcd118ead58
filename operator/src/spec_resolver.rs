//! Resolves the specs of models, and caches the results while spec and data do not change.
//!
//! `ConfigMap`s of users can be 1 MiB large. A `ConfigMap` is read when a model first refers to it and when the metadata
//! watch shows another uid or resource version, not in each reconcile; their contents are not kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::{PredictorModel, PredictorModelSpec, RESTARTED_AT};
use canopy_resource::resolve::InvalidModel;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use crate::api::call::CallError;
use crate::apply::cluster::Cluster;
use crate::labels::MODEL_UID;
use crate::spec::{ResolvedSpec, SourceFile};

/// Cached resolutions, by uid of the model.
#[derive(Clone, Debug, Default)]
pub struct SpecResolver(Arc<Mutex<CacheState>>);

#[derive(Debug, Default)]
struct CacheState {
    cached: HashMap<String, CachedSpec>,
    /// `ConfigMap`s of users seen since the current list started.
    listed: Option<BTreeSet<Name>>,
}

/// Namespace and name.
type Name = (String, String);
/// Uid and resource version.
type Version = (Option<String>, Option<String>);

#[derive(Clone, Debug)]
struct CachedSpec {
    spec: PredictorModelSpec,
    restarted_at: Option<String>,
    /// The `ConfigMap`s with its files.
    sources: BTreeSet<Name>,
    /// `None` while the `ConfigMap`s are being read: an event in the meantime removes the entry.
    resolved: Option<(BTreeMap<Name, Version>, Result<ResolvedSpec, InvalidModel>)>,
}

impl SpecResolver {
    /// Resolves the spec of `model`. The content of its files is only present if the `ConfigMap`s were read for this
    /// call.
    pub async fn resolve(
        &self,
        model: &PredictorModel,
        cluster: &Cluster,
    ) -> Result<Result<ResolvedSpec, InvalidModel>, CallError> {
        let uid = model.uid().unwrap_or_default();
        let sources = sources(model);
        let restarted_at = model.annotations().get(RESTARTED_AT).cloned();
        let spec = revision_inputs(&model.spec);
        let is_same = |cached: &&CachedSpec| cached.spec == spec && cached.restarted_at == restarted_at;
        if let Some((_, resolved)) =
            self.state().cached.get(&uid).filter(is_same).and_then(|k| k.resolved.clone())
        {
            return Ok(resolved);
        }
        let asked = CachedSpec { spec, restarted_at, sources: sources.clone(), resolved: None };
        self.state().cached.insert(uid.clone(), asked);

        let mut config_maps = ConfigMaps::default();
        let mut versions = Some(BTreeMap::new());
        for (namespace, name) in &sources {
            let found = cluster.read_config_map(namespace, name).await?;
            // There are no watch events for a missing ConfigMap or for one with the label of the operator, so such a
            // result is not cached.
            let version =
                found.as_ref().filter(|found| !found.labels().contains_key(MODEL_UID)).map(version_of);
            versions = versions.zip(version).map(|(mut versions, version)| {
                versions.insert((namespace.clone(), name.clone()), version);
                versions
            });
            // `add` only fails for a duplicate, and each ConfigMap is read once.
            drop(found.map(|found| config_maps.add(found)));
        }
        let resolved = ResolvedSpec::new(model, &config_maps);
        if let Some(cached) = self.state().cached.get_mut(&uid).filter(|cached| cached.sources == sources) {
            cached.resolved = versions.map(|versions| (versions, without_content(resolved.clone())));
        }
        Ok(resolved)
    }

    /// Forgets the resolution of a model, so that its data are read again.
    pub fn forget(&self, model: &PredictorModel) {
        self.state().cached.remove(&model.uid().unwrap_or_default());
    }

    /// Removes models that do not satisfy `is_known`.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.state().cached.retain(|uid, _| is_known(uid));
    }

    /// A new list of the `ConfigMap`s of users has started.
    pub fn list_started(&self) {
        self.state().listed = Some(BTreeSet::new());
    }

    /// A `ConfigMap` of a user exists in this version.
    pub fn config_map_seen(&self, metadata: &ObjectMeta) {
        let (name, version) = (name_of(metadata), version_of_metadata(metadata));
        let mut state = self.state();
        state.cached.retain(|_, cached| {
            let read = |(versions, _): &(BTreeMap<_, _>, _)| versions.get(&name) == Some(&version);
            !cached.sources.contains(&name) || cached.resolved.as_ref().is_some_and(read)
        });
        if let Some(listed) = &mut state.listed {
            listed.insert(name);
        }
    }

    /// A `ConfigMap` of a user was deleted.
    pub fn config_map_deleted(&self, metadata: &ObjectMeta) {
        let name = name_of(metadata);
        self.state().cached.retain(|_, cached| !cached.sources.contains(&name));
    }

    /// The list is complete: `ConfigMap`s that were not in it are gone.
    pub fn list_finished(&self) {
        let mut state = self.state();
        if let Some(listed) = state.listed.take() {
            state.cached.retain(|_, cached| cached.sources.is_subset(&listed));
        }
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spec without fields that do not affect the revision.
fn revision_inputs(spec: &PredictorModelSpec) -> PredictorModelSpec {
    PredictorModelSpec { replicas: None, retire_seconds: None, paused: None, ..spec.clone() }
}

/// The `ConfigMap`s with the files of a model.
fn sources(model: &PredictorModel) -> BTreeSet<Name> {
    let namespace = model.namespace().unwrap_or_default();
    let config_maps = model.spec.sources().filter_map(|(_, source)| source.config_map.as_ref());
    config_maps.map(|config_map| (namespace.clone(), config_map.name.clone())).collect()
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

fn without_content(resolved: Result<ResolvedSpec, InvalidModel>) -> Result<ResolvedSpec, InvalidModel> {
    resolved.map(|resolved| ResolvedSpec {
        data: resolved.data.into_iter().map(|data| SourceFile { content: None, ..data }).collect(),
        ..resolved
    })
}
