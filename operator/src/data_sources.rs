//! What each model means, worked out again only where its spec or its data changed.
//!
//! Users' `ConfigMap`s hold up to a megabyte each. One is read when a model first refers to it and when the watch of
//! metadata shows another uid or version of it, not in every pass; its text is not kept.

use std::collections::{BTreeSet, HashMap};
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
use crate::spec::{Data, Meant};

/// What each model means, by its uid.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    known: HashMap<String, Known>,
    /// The users' `ConfigMap`s that a new list of them has shown so far.
    listed: Option<BTreeSet<Name>>,
}

/// A namespace and a name.
type Name = (String, String);
/// A uid and a version.
type Version = (Option<String>, Option<String>);

#[derive(Clone, Debug)]
struct Known {
    spec: PredictorModelSpec,
    restarted_at: Option<String>,
    /// Where the data come from.
    source: Option<Name>,
    /// Nothing while they are being read: an event that comes meanwhile removes this entry.
    read: Option<(Version, Result<Meant, InvalidModel>)>,
}

impl Sources {
    /// What `model` means. The text of the data is there only where they had to be read for it.
    pub async fn meant(
        &self,
        model: &PredictorModel,
        cluster: &Cluster,
    ) -> Result<Result<Meant, InvalidModel>, CallError> {
        let uid = model.uid().unwrap_or_default();
        let source = source(model);
        let restarted_at = model.annotations().get(RESTARTED_AT).cloned();
        let spec = meant_by(&model.spec);
        let is_same = |known: &&Known| known.spec == spec && known.restarted_at == restarted_at;
        if let Some((_, meant)) = self.all().known.get(&uid).filter(is_same).and_then(|k| k.read.clone()) {
            return Ok(meant);
        }
        let asked = Known { spec, restarted_at, source: source.clone(), read: None };
        self.all().known.insert(uid.clone(), asked);

        let mut config_maps = ConfigMaps::default();
        let mut version = Some(Version::default());
        if let Some((namespace, name)) = &source {
            let found = cluster.read_config_map(namespace, name).await?;
            // No event tells of one that is not there yet, and none of one that carries the operator's own label.
            version = found.as_ref().filter(|found| !found.labels().contains_key(MODEL_UID)).map(version_of);
            // One alone is never given twice.
            drop(found.map(|found| config_maps.add(found)));
        }
        let meant = Meant::new(model, &config_maps);
        if let Some(known) = self.all().known.get_mut(&uid).filter(|known| known.source == source) {
            known.read = version.map(|version| (version, without_text(meant.clone())));
        }
        Ok(meant)
    }

    /// Forgets what a model means, so that its data are read again.
    pub fn forget(&self, model: &PredictorModel) {
        self.all().known.remove(&model.uid().unwrap_or_default());
    }

    /// Forgets models that are gone.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.all().known.retain(|uid, _| is_there(uid));
    }

    /// A new list of users' `ConfigMap`s begins.
    pub fn list_begins(&self) {
        self.all().listed = Some(BTreeSet::new());
    }

    /// A user's `ConfigMap` is there, in this version.
    pub fn is_there(&self, metadata: &ObjectMeta) {
        let (name, version) = (name_of(metadata), version_of_metadata(metadata));
        let mut all = self.all();
        all.known.retain(|_, known| {
            known.source.as_ref() != Some(&name)
                || known.read.as_ref().is_some_and(|(read, _)| *read == version)
        });
        if let Some(listed) = &mut all.listed {
            listed.insert(name);
        }
    }

    /// A user's `ConfigMap` is gone.
    pub fn is_gone(&self, metadata: &ObjectMeta) {
        let name = name_of(metadata);
        self.all().known.retain(|_, known| known.source.as_ref() != Some(&name));
    }

    /// The list is complete: what was not in it is gone.
    pub fn list_ends(&self) {
        let mut all = self.all();
        if let Some(listed) = all.listed.take() {
            all.known.retain(|_, known| known.source.as_ref().is_none_or(|source| listed.contains(source)));
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spec without what only says how many pods there are, and when they go.
fn meant_by(spec: &PredictorModelSpec) -> PredictorModelSpec {
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

fn without_text(meant: Result<Meant, InvalidModel>) -> Result<Meant, InvalidModel> {
    meant.map(|meant| Meant { data: meant.data.map(|data| Data { text: None, ..data }), ..meant })
}
