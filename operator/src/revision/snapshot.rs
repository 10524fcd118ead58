//! The snapshot of a revision: its serving config, the template of its pods, and the digests of its files. It never
//! changes.
//!
//! It is stored in a `ControllerRevision`, which the built-in roles of tenants cannot write, and it is still checked
//! when it is read. Defaults of this version are not applied to snapshots of earlier versions, because that would
//! restart their pods.

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

/// A file of a revision: its data, its model file or its evaluation data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Name of the file.
    pub file: String,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// What the pods of a revision are created from.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Serving config as text.
    pub serving: String,
    /// Version of the model.
    pub version: String,
    /// Pod template.
    pub template: PodTemplateSpec,
    /// Files that come from `ConfigMap`s.
    pub data: Vec<DataFile>,
    /// Digest of the spec and the data; `None` for revisions of earlier versions.
    pub spec_digest: Option<String>,
}

/// Stored form of a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotData {
    serving: String,
    template: PodTemplateSpec,
    /// The first file. Earlier versions had no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<DataFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more_data: Vec<DataFile>,
}

impl Snapshot {
    /// Reads a snapshot; the error says why it is not one that the operator wrote.
    pub fn read(
        controller_revision: &ControllerRevision,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Self, String> {
        if controller_revision.name_any() != revision_ref.model.revision_object(revision_ref.revision) {
            return Err("the name of the ControllerRevision does not match its revision".to_owned());
        }
        let RawExtension(data) = &controller_revision.data;
        // The cache keeps the data as text, which takes a fraction of the memory.
        let data = data.as_str().map_or_else(|| SnapshotData::deserialize(data), serde_json::from_str);
        let SnapshotData { serving, template, data, more_data } = data.map_err(|error| error.to_string())?;
        let data = data.into_iter().chain(more_data).collect();
        let spec_digest = controller_revision.annotations().get(SPEC_DIGEST).cloned();
        Ok(Self { spec_digest, ..Self::checked(serving, template, data, revision_ref)? })
    }

    /// The snapshot of a revision from an earlier version, which stored none: the current template of its Deployment,
    /// and its serving config.
    pub fn adopt(
        deployment: &Deployment,
        serving: String,
        data: Vec<DataFile>,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Self, String> {
        let mut template = deployment.spec.template.clone();
        // Annotations come from others, such as `kubectl rollout restart`.
        let labels = template.metadata.take().and_then(|metadata| metadata.labels);
        template.metadata = Some(ObjectMeta { labels, ..ObjectMeta::default() });
        Self::checked(serving, template, data, revision_ref)
    }

    fn checked(
        serving: String,
        template: PodTemplateSpec,
        data: Vec<DataFile>,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Self, String> {
        template_check::check(&template, revision_ref)?;
        // The serving config may be in a format that only another version of the predictor can read.
        let config: Value = serde_json::from_str(&serving)
            .map_err(|error| format!("the serving config is not JSON: {error}"))?;
        let word = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let named = [
            ("model", revision_ref.model.as_str()),
            ("namespace", revision_ref.namespace),
            ("revision", revision_ref.revision),
        ];
        if let Some((key, expected)) = named.into_iter().find(|(key, expected)| word(key) != *expected) {
            return Err(format!("{key} of the serving config must be {expected}, got {:?}", word(key)));
        }
        let version = word("version").to_owned();
        Ok(Self { serving, version, template, data, spec_digest: None })
    }

    /// The snapshot as JSON.
    pub fn to_json(&self) -> Value {
        let Self { serving, version: _, template, data, spec_digest: _ } = self;
        let data = SnapshotData {
            serving: serving.clone(),
            template: template.clone(),
            data: data.first().cloned(),
            more_data: data.iter().skip(1).cloned().collect(),
        };
        // Serialisation cannot fail: all map keys are strings.
        serde_json::to_value(data).unwrap_or_default()
    }
}

/// A serving config as the text that pods read.
pub fn text(config: &ServingConfig) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(config)
}
