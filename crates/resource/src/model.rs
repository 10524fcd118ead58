//! The resource `PredictorModel`, as people write it and the API server keeps it.
//!
//! Comes in and goes out: manifests. What is absent stays absent: defaults are filled by `plan`, so that a newer
//! Canopy does not read an old manifest as a changed one. Never: a field that nothing honours.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]
#![expect(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::placement::{Resources, Scheduling};
use crate::status::PredictorModelStatus;

/// How many pods serve unless the manifest says.
pub const REPLICAS: i32 = 2;
/// How long a revision stays after it was replaced unless the manifest says.
pub const RETIRE_SECONDS: u32 = 60;
/// How long training may take unless the manifest says.
pub const TRAIN_DEADLINE_SECONDS: u32 = 600;
/// The annotation of a model whose value is part of its revision: another value restarts it.
pub const RESTARTED_AT: &str = "canopy.rs/restartedAt";

/// How many features made up rows have unless the manifest says; a rule below says it too.
pub(crate) const SYNTHETIC_FEATURES: u32 = 4;
/// The most rows that are made up: with the most features, 200 MB.
const SAMPLES_MAX: u32 = 100_000;
const SYNTHETIC_FEATURES_MAX: u32 = 256;
const TREES_MAX: u32 = 1000;
/// scikit-learn's seeds end here too, and every language of a client can carry it.
const SEED_MAX: u64 = 4_294_967_295;
const REPLICAS_MAX: u32 = 1000;
const RETIRE_SECONDS_MAX: u32 = 86_400;
const TRAIN_DEADLINE_SECONDS_MAX: u32 = 86_400;
const FEATURES_MAX: u32 = 1024;
const CLASSES_MAX: u32 = 256;
/// The longest name of a feature, a class or a column.
const LABEL_MAX: u32 = 128;
const URI_MAX: u32 = 2048;
/// A SHA-256 in hexadecimal.
const SHA256_DIGITS: u32 = 64;
/// The longest name of a ConfigMap and of a key in it, as Kubernetes has it.
const CONFIG_MAP_NAME_MAX: u32 = 253;

/// The version becomes the value of a label of pods and metrics.
const VERSION_PATTERN: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
const CONFIG_MAP_NAME_PATTERN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
const CONFIG_MAP_KEY_PATTERN: &str = "^[-._a-zA-Z0-9]+$";

/// A rule in CEL, for the API server, and what it says where it is broken: `rules` says the same without one.
type Rule = (&'static str, &'static str);

pub(crate) const NAME_IS_A_LABEL: Rule = (
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be lower-case letters, digits and '-', begin with a letter and not end with '-'",
);
pub(crate) const NAME_IS_SHORT: Rule =
    ("size(self.metadata.name) <= 45", "metadata.name must be at most 45 characters");
pub(crate) const NAME_IS_FREE: Rule = (
    "self.metadata.name != 'predictors' && !self.metadata.name.matches('-(pods|[0-9a-f]{8})$')",
    "metadata.name is kept for what Canopy makes itself ('predictors', '…-pods', '…-<8 hexadecimal digits>')",
);
pub(crate) const ONE_KIND_OF_DATA: Rule = (
    "[has(self.synthetic), has(self.csv)].filter(given, given).size() == 1",
    "exactly one of synthetic and csv must be given",
);
pub(crate) const ONE_KIND_OF_SOURCE: Rule = (
    "[has(self.configMap), has(self.uri)].filter(given, given).size() == 1",
    "exactly one of configMap and uri must be given",
);
pub(crate) const URI_IS_HTTP: Rule = (
    "!has(self.uri) || self.uri.matches('^https?://[^/?#][!-~]*$')",
    "uri must begin with https:// or http://, name a host and have no spaces",
);
pub(crate) const URI_HAS_A_DIGEST: Rule = (
    "has(self.uri) == has(self.sha256)",
    "sha256 must be given with uri, and only with it: it is what sha256sum prints for the file",
);
pub(crate) const SHA256_IS_HEXADECIMAL: Rule = (
    "!has(self.sha256) || self.sha256.matches('^[0-9a-f]{64}$')",
    "sha256 must be 64 of the digits 0-9 and a-f, as sha256sum prints them",
);
pub(crate) const ONE_KIND_OF_ALGORITHM: Rule =
    ("[has(self.randomForest)].filter(given, given).size() == 1", "randomForest must be given");
pub(crate) const GATE_IS_A_SHARE: Rule =
    ("double(self.min) >= 0.0 && double(self.min) <= 1.0", "min must be between 0 and 1");
pub(crate) const BOUNDS_ARE_IN_ORDER: Rule = (
    "!has(self.min) || !has(self.max) || double(self.min) <= double(self.max)",
    "min must not be greater than max",
);
pub(crate) const EVERY_SYNTHETIC_FEATURE_IS_NAMED: Rule = (
    "!has(self.features) || !has(self.train.data.synthetic) || size(self.features) == \
     (has(self.train.data.synthetic.features) ? self.train.data.synthetic.features : 4)",
    "features must have as many entries as train.data.synthetic.features says (4 unless given)",
);
pub(crate) const SYNTHETIC_CLASSES_ARE_TWO: Rule = (
    "!has(self.classes) || !has(self.train.data.synthetic) || size(self.classes) == 2",
    "classes must have 2 entries where the data is synthetic",
);

/// What a model is and how it comes to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "canopy.rs",
    version = "v1alpha1",
    kind = "PredictorModel",
    plural = "predictormodels",
    shortname = "pm",
    category = "canopy",
    namespaced,
    derive = "PartialEq",
    doc = "A model that Canopy trains, proves on rows it has not seen, and serves.",
    status = "PredictorModelStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Quality", type_ = "string", json_path = ".status.quality.value"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Up", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Revision", type_ = "string", priority = 1, json_path = ".status.revision"),
    printcolumn(name = "Metric", type_ = "string", priority = 1, json_path = ".status.quality.metric"),
    printcolumn(name = "Samples", type_ = "integer", priority = 1, json_path = ".status.quality.samples"),
    printcolumn(name = "URL", type_ = "string", priority = 1, json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = NAME_IS_A_LABEL,
    validation = NAME_IS_SHORT,
    validation = NAME_IS_FREE
)]
#[x_kube(validation = EVERY_SYNTHETIC_FEATURE_IS_NAMED, validation = SYNTHETIC_CLASSES_ARE_TWO)]
#[serde(rename_all = "camelCase")]
pub struct PredictorModelSpec {
    /// What you call this version of the model. It is on every answer, metric and trace.
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION_PATTERN))]
    pub version: String,
    /// How the model is trained. It is trained once per change, before it gets traffic.
    pub train: Train,
    /// The features in the order in which requests give them, with their bounds: a request with a value outside
    /// is refused by the feature's name. For CSV data they are all columns but the target, in any order; without
    /// this list they are these columns in the order of the table, without bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Feature>", length(min = 1, max = FEATURES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub features: Option<Vec<Feature>>,
    /// The names of the classes: the answer with index 0 is the first. For CSV data they are the values of the
    /// target, or names for them where they are the whole numbers from 0 on; without this list they are these
    /// values, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Vec<String>",
        length(min = 2, max = CLASSES_MAX),
        inner(length(min = 1, max = LABEL_MAX))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub classes: Option<Vec<String>>,
    /// How many pods serve. 2 unless given. 0 keeps the model and stops its pods. A change makes no new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without a value in the manifest there would be nothing for kubectl scale to read.
    #[schemars(with = "i32", range(min = 0, max = REPLICAS_MAX), extend("default" = REPLICAS))]
    pub replicas: Option<i32>,
    /// What each pod needs to serve. A little CPU and memory, and no limit, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub resources: Option<Resources>,
    /// On which nodes the pods may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Scheduling")]
    pub scheduling: Option<Scheduling>,
    /// How long the pods of a revision stay after another has taken its place. 60 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0, max = RETIRE_SECONDS_MAX))]
    pub retire_seconds: Option<u32>,
    /// While true, nothing is changed: pods stay as they are, whatever the spec says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub paused: Option<bool>,
}

/// How a model is trained.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Train {
    /// The rows to learn from: exactly one of its fields.
    pub data: Data,
    /// The method: exactly one of its fields.
    pub algorithm: Algorithm,
    /// Whether features are scaled to mean 0 and standard deviation 1 first, for methods that depend on scale. A random
    /// forest does not: it learns from values as they are. True unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub standardize: Option<bool>,
    /// How many of a hundred rows are kept from training, to measure the quality of the model. 20 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 90))]
    pub test_percent: Option<u8>,
    /// The quality below which the model never gets traffic. Without it every model does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QualityGate")]
    pub gate: Option<QualityGate>,
    /// What each pod needs to train, before it serves. A little CPU and memory, and no limit, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub resources: Option<Resources>,
    /// How long training may take before the revision is refused; a download of its data may take half of it. 600
    /// unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = TRAIN_DEADLINE_SECONDS_MAX))]
    pub deadline_seconds: Option<u32>,
}

/// The rows to learn from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_KIND_OF_DATA)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// Made up rows, to try Canopy without data: standard normal features, class 1 where the first two add up
    /// to more than 0, else class 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Synthetic")]
    pub synthetic: Option<Synthetic>,
    /// A table in CSV with a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Csv")]
    pub csv: Option<Csv>,
}

/// How many rows to make up.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Synthetic {
    /// How many rows. 1000 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 10, max = SAMPLES_MAX))]
    pub samples: Option<u32>,
    /// How many features. 4 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 2, max = SYNTHETIC_FEATURES_MAX))]
    pub features: Option<u32>,
    /// The seed that the rows follow from. 42 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = SEED_MAX))]
    pub seed: Option<u64>,
}

/// A table in CSV with a header.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Csv {
    /// Where the table is: exactly one of its fields.
    pub source: Source,
    /// The column to predict.
    #[schemars(length(min = 1, max = LABEL_MAX))]
    pub target: String,
}

/// Where a file is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = ONE_KIND_OF_SOURCE,
    validation = URI_IS_HTTP,
    validation = URI_HAS_A_DIGEST,
    validation = SHA256_IS_HEXADECIMAL
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A key of a ConfigMap in the namespace of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConfigMapKey")]
    pub config_map: Option<ConfigMapKey>,
    /// An address, https:// or http://, that the pods can reach. Whoever may read the model may read it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = URI_MAX))]
    pub uri: Option<String>,
    /// The SHA-256 of the file at the uri, as sha256sum prints it: required with uri, and only there. A file with
    /// another digest is refused; new data are a new digest, and so a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = SHA256_DIGITS))]
    pub sha256: Option<String>,
}

/// A key of a ConfigMap.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = CONFIG_MAP_NAME_MAX), regex(pattern = CONFIG_MAP_NAME_PATTERN))]
    pub name: String,
    /// The key under its data.
    #[schemars(length(min = 1, max = CONFIG_MAP_NAME_MAX), regex(pattern = CONFIG_MAP_KEY_PATTERN))]
    pub key: String,
}

/// The method of training.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_KIND_OF_ALGORITHM)]
#[serde(rename_all = "camelCase")]
pub struct Algorithm {
    /// Many decision trees, each grown on its own draw of rows and features. A forest answers with the mean of
    /// the class shares in the leaves that a row reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RandomForest")]
    pub random_forest: Option<RandomForest>,
}

/// The parameters of a random forest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RandomForest {
    /// How many trees. 100 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = TREES_MAX))]
    pub trees: Option<u32>,
    /// How deep a tree may grow. Without it a tree grows until its leaves are pure or as small as they may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 100))]
    pub max_depth: Option<u32>,
    /// How few rows a leaf may hold. 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 100_000))]
    pub min_samples_leaf: Option<u32>,
    /// How many features each split may choose from: the square root of their number, its logarithm to base 2,
    /// or all. Sqrt unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MaxFeatures")]
    pub max_features: Option<MaxFeatures>,
    /// Whether each tree draws its rows with replacement; else each takes all rows. True unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub bootstrap: Option<bool>,
    /// The seed that all draws follow from: the same seed and data give the same forest. 42 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = SEED_MAX))]
    pub seed: Option<u64>,
}

/// How many features a split may choose from.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxFeatures {
    /// The square root of their number.
    Sqrt,
    /// The logarithm of their number to base 2.
    Log2,
    /// All.
    All,
}

/// A quality that a model must reach.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = GATE_IS_A_SHARE)]
#[serde(rename_all = "camelCase")]
pub struct QualityGate {
    /// What is measured on the rows kept from training. Accuracy is the share of them that is predicted right.
    pub metric: Metric,
    /// The least it may be, from 0 to 1: a whole number, or a decimal in quotes.
    pub min: Decimal,
}

/// A measure of quality.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// The share of rows whose class was predicted.
    Accuracy,
}

/// One column of a model's input.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = BOUNDS_ARE_IN_ORDER)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// Its name.
    #[schemars(length(min = 1, max = LABEL_MAX))]
    pub name: String,
    /// The lowest value it may have: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub min: Option<Decimal>,
    /// The highest value it may have: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub max: Option<Decimal>,
}
