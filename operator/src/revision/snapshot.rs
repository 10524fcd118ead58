//! What a revision is made from, fixed when it is made: the serving config, the template of its pods and the digest
//! of its data.
//!
//! It is kept in a `ControllerRevision`: of what decides what runs, nothing is read from an object that the usual
//! rights of a tenant reach. What is read back is checked all the same. No default of this version of the operator
//! comes into a revision that an earlier one made; that would restart its pods.

use canopy_contract::serving::ServingConfig;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::labels::SPEC_DIGEST;
use crate::pod::template_check::{self, RevisionRef};

/// The file with the data of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its name.
    pub file: String,
    /// The SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// What one revision is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The serving config as text.
    pub serving: String,
    /// The version of the model, as people label it.
    pub version: String,
    /// The pod template.
    pub template: PodTemplateSpec,
    /// The copy of its data, where its pods need one.
    pub data: Option<DataFile>,
    /// The digest of what the spec and the data meant. None is known of a revision that an earlier operator made.
    pub spec_digest: Option<String>,
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct SnapshotData {
    serving: String,
    template: PodTemplateSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<DataFile>,
}

impl Snapshot {
    /// Reads what was frozen, or says why this is not what the operator wrote.
    pub fn read(
        controller_revision: &ControllerRevision,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Self, String> {
        if controller_revision.name_any() != revision_ref.model.revision_object(revision_ref.revision) {
            return Err("its name is not that of its revision".to_owned());
        }
        let RawExtension(data) = &controller_revision.data;
        // The watch keeps it as text, which takes a fraction of the memory.
        let data = data.as_str().map_or_else(|| SnapshotData::deserialize(data), serde_json::from_str);
        let SnapshotData { serving, template, data } = data.map_err(|error| error.to_string())?;
        let spec_digest = controller_revision.annotations().get(SPEC_DIGEST).cloned();
        Ok(Self { spec_digest, ..Self::checked(serving, template, data, revision_ref)? })
    }

    /// What the revision of an earlier operator, which wrote no snapshot, is made from: the template that its Deployment
    /// has now, and its serving config.
    pub fn adopt(
        deployment: &Deployment,
        serving: String,
        data: Option<DataFile>,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Self, String> {
        let mut template = deployment.spec.template.clone();
        // Annotations are other people's, such as that of `kubectl rollout restart`.
        let labels = template.metadata.take().and_then(|metadata| metadata.labels);
        template.metadata = Some(ObjectMeta { labels, ..ObjectMeta::default() });
        Self::checked(serving, template, data, revision_ref)
    }

    fn checked(
        serving: String,
        template: PodTemplateSpec,
        data: Option<DataFile>,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Self, String> {
        template_check::check(&template, revision_ref)?;
        // The serving config may be one that only another version of the predictor reads.
        let config: Value = serde_json::from_str(&serving).map_err(|error| format!("its config: {error}"))?;
        let word = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let named = [
            ("model", revision_ref.model.as_str()),
            ("namespace", revision_ref.namespace),
            ("revision", revision_ref.revision),
        ];
        if let Some((key, expected)) = named.into_iter().find(|(key, expected)| word(key) != *expected) {
            return Err(format!("the {key} of its config is {:?}, not {expected}", word(key)));
        }
        let version = word("version").to_owned();
        Ok(Self { serving, version, template, data, spec_digest: None })
    }

    /// As it is written down.
    pub fn to_json(&self) -> Value {
        let Self { serving, version: _, template, data, spec_digest: _ } = self;
        let data = SnapshotData { serving: serving.clone(), template: template.clone(), data: data.clone() };
        // Every map in it has text as keys.
        serde_json::to_value(data).unwrap_or_default()
    }
}

/// A serving config as the text that pods read.
pub fn text(config: &ServingConfig) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(config)
}
