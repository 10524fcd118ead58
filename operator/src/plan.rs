//! What a model's spec asks for, with its defaults filled in.
//!
//! Comes in: a model, the settings, and the `ConfigMap` that its data come from. Goes out: a plan, always: one
//! that cannot be carried out still says how many replicas the revision that serves should have. Never: a look
//! at what is there.

use std::path::Path;
use std::time::Duration;

use canopy_contract::names::{ModelName, NameError};
use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::{PredictorModel, REPLICAS, RETIRE_SECONDS, TRAIN_DEADLINE_SECONDS};
use canopy_resource::plan::{self, Refusal};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};

use crate::frozen::Frozen;
use crate::labels;
use crate::pod::{self, DATA_FOLDER, Program};
use crate::reason::{Reason, Trouble};

/// Faults of this field and those below it are not the spec's: what it names is not there, or not yet.
const SOURCE_FIELD: &str = "spec.train.data.csv.source.configMap";

/// What a model's spec asks for.
#[derive(Clone, Debug)]
pub struct Plan {
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
    pub target: Result<Target, Trouble>,
}

/// A revision as it would be made now.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub revision: String,
    /// What its pods would be made from.
    pub frozen: Frozen,
    /// The data, as a file's name and its text.
    pub data: Option<(String, String)>,
    /// How long its preparation may take.
    pub deadline: Duration,
}

impl Plan {
    /// The plan for `model`, whose predictors run `program`.
    pub fn new(
        model: &PredictorModel,
        program: &Program,
        config_maps: &ConfigMaps,
    ) -> Result<Self, NameError> {
        let name = ModelName::try_from(model.name_any())?;
        let uid = model.uid().unwrap_or_default();
        let seconds = |given: Option<u32>, default: u32| Duration::from_secs(given.unwrap_or(default).into());
        Ok(Self {
            target: target(model, &uid, program, config_maps),
            namespace: model.namespace().unwrap_or_default(),
            owner: model.controller_owner_ref(&()).unwrap_or_default(),
            replicas: model.spec.replicas.unwrap_or(REPLICAS),
            retire: seconds(model.spec.retire_seconds, RETIRE_SECONDS),
            name,
            uid,
        })
    }
}

fn target(
    model: &PredictorModel,
    uid: &str,
    program: &Program,
    config_maps: &ConfigMaps,
) -> Result<Target, Trouble> {
    let plan::Plan { config, file } =
        plan::Plan::new(model, config_maps, Path::new(DATA_FOLDER)).map_err(|refusal| trouble(&refusal))?;
    let labels = labels::of_revision(&config.model, uid, &config.version, &config.revision);
    let inputs = pod::Inputs { program, serving: &config, spec: &model.spec, labels: &labels };
    let frozen = Frozen::new(&config, pod::template(inputs)).map_err(|error| {
        Trouble::new(Reason::SpecInvalid, format!("spec cannot be written down: {error}"))
    })?;
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let deadline = model.spec.train.deadline_seconds.unwrap_or(TRAIN_DEADLINE_SECONDS);
    Ok(Target {
        revision: config.revision,
        frozen,
        data: file.map(|file| (file_name(&file.path), file.text)),
        deadline: Duration::from_secs(deadline.into()),
    })
}

/// What people are told where there is no revision to make.
fn trouble(refusal: &Refusal) -> Trouble {
    let is_data = |field: &str| field.starts_with(SOURCE_FIELD);
    let of_data = refusal.faults.iter().all(|fault| is_data(&fault.field));
    let reason = if of_data { Reason::DataUnavailable } else { Reason::SpecInvalid };
    Trouble::new(reason, refusal.to_string())
}
