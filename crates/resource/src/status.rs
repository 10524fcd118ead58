//! The status of a `PredictorModel`, written by the operator.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The observed state of a model.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PredictorModelStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Available: a revision serves requests. Ready: all replicas of this generation's revision serve requests.
    /// Prepared: that revision is trained and has passed its gate. Progressing: a rollout is in progress.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The version that serves, or served last. Absent until one has served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub version: Option<String>,
    /// The revision that serves, or served last. Absent until one has served. It is a digest of spec and data, and
    /// every prediction has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub revision: Option<String>,
    /// The current revision, if it was refused. It is tried again when spec or data change, at retryAfter, or, if a
    /// deadline was exceeded, with another deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefusedRevision")]
    pub refused: Option<RefusedRevision>,
    /// The artifact of the serving revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ArtifactStatus")]
    pub artifact: Option<ArtifactStatus>,
    /// The quality of the serving revision on held-out rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QualityStatus")]
    pub quality: Option<QualityStatus>,
    /// The number of pods of the serving revision.
    #[serde(default)]
    pub replicas: i32,
    /// The number of these pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// The label selector of these pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub selector: Option<String>,
    /// The URL of the model inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub url: Option<String>,
}

/// A refused revision.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRevision {
    /// The revision.
    pub revision: String,
    /// The reason, as one CamelCase word.
    pub reason: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// The number of attempts, if another attempt may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub attempts: Option<i32>,
    /// The time of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub retry_after: Option<Time>,
    /// The deadline that training exceeded. Another deadline starts a new attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1))]
    pub deadline_seconds: Option<u32>,
}

/// The file of a trained model.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The size of the file in bytes.
    pub bytes: i64,
}

/// The quality of a model.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QualityStatus {
    /// The metric.
    pub metric: String,
    /// The value, with four decimals.
    pub value: String,
    /// The number of held-out rows.
    pub samples: i64,
}
