//! The desired state of a model: its spec with defaults applied, its data, and the revision they result in.
//!
//! It always exists. If the spec is invalid, only `target` is an error, so that the serving revision can still be
//! scaled.

use std::path::Path;
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_contract::serving::ServingConfig;
use canopy_resource::digest::sha256;
use canopy_resource::files::{File, is_in_config_map};
use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::{PredictorModel, REPLICAS, RETIRE_SECONDS};
use canopy_resource::resolve::{InvalidModel, ResolvedModel};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use crate::labels;
use crate::pod::template::{self, DATA_FOLDER, PredictorRuntime};
use crate::reason::{Diagnosis, Reason};
use crate::revision::names::RevisionNames;
use crate::revision::snapshot::{self, DataFile, Snapshot};

/// The desired state of a model.
#[derive(Clone, Debug)]
pub struct DesiredState {
    /// Name of the model.
    pub name: ModelName,
    /// Namespace of the model.
    pub namespace: String,
    /// Uid of the model.
    pub uid: String,
    /// Owner reference of its children.
    pub owner: OwnerReference,
    /// Number of replicas.
    pub replicas: i32,
    /// How long a replaced revision is kept.
    pub retire: Duration,
    /// The revision for this spec and its data, or the reason why there is none.
    pub target: Result<Target, Diagnosis>,
}

/// A spec with its data, before the revision has a name.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedSpec {
    /// Serving config, without the name of the revision.
    pub config: ServingConfig,
    /// Digest of the spec and the data.
    pub spec_digest: String,
    /// Name that Canopy 0.1 would have given to the revision.
    pub legacy_name: String,
    /// Files that come from `ConfigMap`s: the data, or the model file and the evaluation data.
    pub data: Vec<SourceFile>,
}

/// A file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// File in the pod, with its digest.
    pub file: DataFile,
    /// Content of the file. It can be large, so it is only present right after the `ConfigMap` was read.
    pub content: Option<Vec<u8>>,
}

/// The revision that the spec asks for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the revision.
    pub revision: String,
    /// Digest of the spec and the data.
    pub spec_digest: String,
    /// Serving config.
    pub config: ServingConfig,
    /// Snapshot for a new revision with this name.
    pub snapshot: Snapshot,
    /// Files that come from `ConfigMap`s.
    pub data: Vec<SourceFile>,
    /// Deadline of its preparation.
    pub deadline: Duration,
}

impl ResolvedSpec {
    /// Resolves the spec of `model` with these `ConfigMap`s.
    pub fn new(model: &PredictorModel, config_maps: &ConfigMaps) -> Result<Self, InvalidModel> {
        let ResolvedModel { config, meaning: spec_digest, legacy: legacy_name, files } =
            ResolvedModel::new(model, config_maps, Path::new(DATA_FOLDER))?;
        let data = files.into_iter().map(|File { path, bytes, sha256 }| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            SourceFile { file: DataFile { file, sha256 }, content: Some(bytes) }
        });
        Ok(Self { config, spec_digest, legacy_name, data: data.collect() })
    }
}

impl DesiredState {
    /// Computes the desired state of the model with this name.
    pub fn new(
        name: ModelName,
        model: &PredictorModel,
        runtime: &PredictorRuntime,
        resolved: Result<ResolvedSpec, InvalidModel>,
        names: &RevisionNames,
    ) -> Self {
        let uid = model.uid().unwrap_or_default();
        let seconds = |given: Option<u32>, default: u32| Duration::from_secs(given.unwrap_or(default).into());
        let resolved = resolved.map_err(|refusal| refusal_diagnosis(&refusal));
        Self {
            target: resolved.and_then(|resolved| target(model, runtime, resolved, names)),
            namespace: model.namespace().unwrap_or_default(),
            owner: model.controller_owner_ref(&()).unwrap_or_default(),
            replicas: model.spec.replicas.unwrap_or(REPLICAS),
            retire: seconds(model.spec.retire_seconds, RETIRE_SECONDS),
            name,
            uid,
        }
    }
}

fn target(
    model: &PredictorModel,
    runtime: &PredictorRuntime,
    resolved: ResolvedSpec,
    names: &RevisionNames,
) -> Result<Target, Diagnosis> {
    let ResolvedSpec { mut config, spec_digest, legacy_name, data } = resolved;
    config.revision = names.resolve(&spec_digest, &legacy_name);
    let uid = model.uid().unwrap_or_default();
    let labels = labels::of_revision(&config.model, &uid, &config.version, &config.revision);
    let serving = snapshot::text(&config).map_err(|error| {
        Diagnosis::new(Reason::SpecInvalid, format!("failed to serialise the serving config: {error}"))
    })?;
    let data_sha256: Vec<_> = data.iter().map(|data| data.file.sha256.as_str()).collect();
    let template = template::template(template::TemplateInputs {
        runtime,
        serving: &config,
        config_sha256: &sha256(&serving),
        data_sha256: &data_sha256,
        spec: &model.spec,
        labels: &labels,
    });
    let snapshot = Snapshot {
        serving,
        version: config.version.clone(),
        template,
        data: data.iter().map(|data| data.file.clone()).collect(),
        spec_digest: Some(spec_digest.clone()),
    };
    let deadline = Duration::from_secs(model.spec.deadline_seconds().into());
    Ok(Target { revision: config.revision.clone(), spec_digest, config, snapshot, data, deadline })
}

/// The diagnosis of a spec that gives no revision.
fn refusal_diagnosis(refusal: &InvalidModel) -> Diagnosis {
    // A missing ConfigMap or key is not a fault of the spec: it may be created later.
    let of_data = refusal.faults.iter().all(|fault| is_in_config_map(&fault.field));
    let reason = if of_data { Reason::DataUnavailable } else { Reason::SpecInvalid };
    Diagnosis::new(reason, refusal.to_string())
}
