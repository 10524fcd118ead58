//! What the operator says of a model.
//!
//! Comes in and goes out: the status of a manifest. Never: a float, or a phase; the conditions say more.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator says of a model.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PredictorModelStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Available: some revision answers. Ready: the revision of this generation answers with all its replicas.
    /// Prepared: that revision is trained and met its gate. Progressing: a change is under way.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The version that serves, or served last; absent until one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub version: Option<String>,
    /// The revision that serves, or served last; absent until one does. It is a digest of what the spec and the data
    /// mean, and is on every answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub revision: Option<String>,
    /// The revision that the spec asks for and that was refused. It is not tried again until spec or data change, or
    /// until retryAfter or with another deadline where it has those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefusedRevision")]
    pub refused: Option<RefusedRevision>,
    /// The artifact that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ArtifactStatus")]
    pub artifact: Option<ArtifactStatus>,
    /// How good the model that serves was on rows it was not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QualityStatus")]
    pub quality: Option<QualityStatus>,
    /// How many pods the revision that serves has.
    #[serde(default)]
    pub replicas: i32,
    /// How many of them are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selects these pods; for whatever scales the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub selector: Option<String>,
    /// Where the model answers inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub url: Option<String>,
}

/// A revision that does not serve, and why.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRevision {
    /// The revision.
    pub revision: String,
    /// Why, in one word.
    pub reason: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// How often it was tried, where it may go better the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub attempts: Option<i32>,
    /// When it is tried again without a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub retry_after: Option<Time>,
    /// The deadline that training did not meet: with another one it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1))]
    pub deadline_seconds: Option<u32>,
}

/// The file that a model is kept in.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: i64,
}

/// How good a model is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QualityStatus {
    /// What was measured.
    pub metric: String,
    /// The value, with four decimals.
    pub value: String,
    /// On how many rows.
    pub samples: i64,
}
