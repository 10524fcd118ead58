//! What a model's spec asks for, with its defaults filled in.
//!
//! Comes in: a model, the settings, and the `ConfigMap` that its data come from. Goes out: a plan, always: one
//! that cannot be carried out still says how many replicas the revision that serves should have. Never: a look
//! at what is there.

use std::path::Path;
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_contract::serving::ServingConfig;
use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::{PredictorModel, REPLICAS, RETIRE_SECONDS, TRAIN_DEADLINE_SECONDS};
use canopy_resource::plan::{self, Refusal};
use canopy_resource::revision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use crate::labels;
use crate::pod::template::{self, DATA_FOLDER, PredictorRuntime};
use crate::reason::{Diagnosis, Reason};
use crate::revision::names::RevisionNames;
use crate::revision::snapshot::{self, DataFile, Snapshot};

/// Faults of this field and those below it are not the spec's: what it names is not there, or not yet.
const SOURCE_FIELD: &str = "spec.train.data.csv.source.configMap";

/// What a model's spec asks for.
#[derive(Clone, Debug)]
pub struct DesiredState {
    /// The model's name.
    pub name: ModelName,
    /// The namespace it lives in.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// The reference with which its children name it.
    pub owner: OwnerReference,
    /// How many pods should serve.
    pub replicas: i32,
    /// How long a revision that served stays after it was replaced.
    pub retire: Duration,
    /// The revision that this spec and these data make, or why they make none.
    pub target: Result<Target, Diagnosis>,
}

/// What a spec and its data mean, before the revision has a name.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedSpec {
    /// What the predictor reads.
    pub config: ServingConfig,
    /// The digest of it all.
    pub spec_digest: String,
    /// The name that Canopy 0.1 would have given to the revision.
    pub legacy_name: String,
    /// The data, where they come from a `ConfigMap`.
    pub data: Option<TrainingData>,
}

/// The data of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingData {
    /// The file that pods read, and its digest.
    pub file: DataFile,
    /// What is in it. It is as large as the data, so it is only there where it was just read.
    pub text: Option<String>,
}

/// A revision as it would be made now.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub revision: String,
    /// The digest of what the spec and the data mean.
    pub spec_digest: String,
    /// What the predictor would read.
    pub config: ServingConfig,
    /// What its pods would be made from.
    pub snapshot: Snapshot,
    /// The data, where they come from a `ConfigMap`.
    pub data: Option<TrainingData>,
    /// How long its preparation may take.
    pub deadline: Duration,
}

impl ResolvedSpec {
    /// What `model` means with these data.
    pub fn new(model: &PredictorModel, config_maps: &ConfigMaps) -> Result<Self, Refusal> {
        let plan::Plan { config, meaning: spec_digest, legacy: legacy_name, file } =
            plan::Plan::new(model, config_maps, Path::new(DATA_FOLDER))?;
        let data = file.map(|plan::File { path, text, sha256 }| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            TrainingData { file: DataFile { file, sha256 }, text: Some(text) }
        });
        Ok(Self { config, spec_digest, legacy_name, data })
    }
}

impl DesiredState {
    /// The plan for `model`, which is called `name`, whose predictors run `runtime` and whose revisions have `names`.
    pub fn new(
        (name, model): (ModelName, &PredictorModel),
        runtime: &PredictorRuntime,
        resolved: Result<ResolvedSpec, Refusal>,
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
        Diagnosis::new(Reason::SpecInvalid, format!("spec cannot be written down: {error}"))
    })?;
    let template = template::template(template::TemplateInputs {
        runtime,
        serving: &config,
        config_sha256: &revision::sha256(&serving),
        data_sha256: data.as_ref().map(|data| data.file.sha256.as_str()),
        spec: &model.spec,
        labels: &labels,
    });
    let snapshot = Snapshot {
        serving,
        version: config.version.clone(),
        template,
        data: data.as_ref().map(|data| data.file.clone()),
        spec_digest: Some(spec_digest.clone()),
    };
    let deadline = model.spec.train.deadline_seconds.unwrap_or(TRAIN_DEADLINE_SECONDS);
    let deadline = Duration::from_secs(deadline.into());
    Ok(Target { revision: config.revision.clone(), spec_digest, config, snapshot, data, deadline })
}

/// What people are told where there is no revision to make.
fn refusal_diagnosis(refusal: &Refusal) -> Diagnosis {
    let is_data = |field: &str| field.starts_with(SOURCE_FIELD);
    let of_data = refusal.faults.iter().all(|fault| is_data(&fault.field));
    let reason = if of_data { Reason::DataUnavailable } else { Reason::SpecInvalid };
    Diagnosis::new(reason, refusal.to_string())
}
