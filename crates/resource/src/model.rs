//! The Rust types of the resource `PredictorModel`; its CRD is generated from them.
//!
//! Absent fields stay absent. Defaults are filled in by `resolve`, so a newer Canopy does not see an old manifest as changed.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]
#![expect(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::placement::{Resources, Scheduling};
use crate::status::PredictorModelStatus;

/// The default number of replicas.
pub const REPLICAS: i32 = 2;
/// The default of `retireSeconds`.
pub const RETIRE_SECONDS: u32 = 60;
/// The default of `train.deadlineSeconds`.
pub const TRAIN_DEADLINE_SECONDS: u32 = 600;
/// The annotation of a model whose value is part of its revision: another value restarts it.
pub const RESTARTED_AT: &str = "canopy.rs/restartedAt";

/// The default number of synthetic features; the CEL rule below repeats it.
pub(crate) const SYNTHETIC_FEATURES: u32 = 4;
/// The maximum of synthetic rows: 200 MB with the maximum of features.
const SAMPLES_MAX: u32 = 100_000;
const SYNTHETIC_FEATURES_MAX: u32 = 256;
const TREES_MAX: u32 = 1000;
/// The maximum seed of scikit-learn, and exact as a number in every client language.
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

/// A CEL rule of the API server and its message; `rules` checks the same without CEL.
type Rule = (&'static str, &'static str);

pub(crate) const NAME_IS_A_LABEL: Rule = (
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be lower-case letters, digits and '-', begin with a letter and not end with '-'",
);
pub(crate) const NAME_IS_SHORT: Rule =
    ("size(self.metadata.name) <= 45", "metadata.name must be at most 45 characters");
pub(crate) const NAME_IS_FREE: Rule = (
    "self.metadata.name != 'predictors' && !self.metadata.name.matches('-(pods|[0-9a-f]{8})$')",
    "metadata.name is reserved for objects that Canopy creates ('predictors', '…-pods', '…-<8 hexadecimal digits>')",
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

/// How a model is trained and served.
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
    doc = "A model that Canopy trains, evaluates on held-out rows, and serves.",
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
    /// Your name for this version of the model. Every prediction, metric and trace has it.
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION_PATTERN))]
    pub version: String,
    /// How the model is trained. Each change is trained before the model gets requests.
    pub train: Train,
    /// The features in the order of the values in a request, with bounds. A request with a value out of bounds is
    /// refused, with the name of the feature. For CSV data, list all columns except the target, in any order.
    /// Defaults to these columns in the order of the table, without bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Feature>", length(min = 1, max = FEATURES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub features: Option<Vec<Feature>>,
    /// The names of the classes; the first has index 0. For CSV data, list the values of the target column, or names
    /// for them if the values are the whole numbers from 0. Defaults to the sorted values of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Vec<String>",
        length(min = 2, max = CLASSES_MAX),
        inner(length(min = 1, max = LABEL_MAX))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub classes: Option<Vec<String>>,
    /// The number of pods that serve the model. 0 stops all pods and keeps the model. A change does not create a new
    /// revision. Defaults to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without a value in the manifest there would be nothing for kubectl scale to read.
    #[schemars(with = "i32", range(min = 0, max = REPLICAS_MAX), extend("default" = REPLICAS))]
    pub replicas: Option<i32>,
    /// Resources of each serving pod. Defaults to small requests without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub resources: Option<Resources>,
    /// On which nodes the pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Scheduling")]
    pub scheduling: Option<Scheduling>,
    /// Seconds until the pods of a replaced revision are removed. Defaults to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0, max = RETIRE_SECONDS_MAX))]
    pub retire_seconds: Option<u32>,
    /// If true, the operator changes nothing: pods continue to run, and changes of the spec have no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub paused: Option<bool>,
}

/// How a model is trained.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Train {
    /// The training data. Set exactly one field.
    pub data: Data,
    /// The training algorithm. Set exactly one field.
    pub algorithm: Algorithm,
    /// Whether features are scaled to mean 0 and standard deviation 1, for algorithms that depend on scale. A random
    /// forest does not depend on it and uses values unscaled. Defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub standardize: Option<bool>,
    /// Percentage of rows that are held out from training, to evaluate the model. Defaults to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 90))]
    pub test_percent: Option<u8>,
    /// The minimum quality of the model. A model below it never gets requests. Defaults to no minimum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QualityGate")]
    pub gate: Option<QualityGate>,
    /// Resources of each pod while it trains. Defaults to small requests without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub resources: Option<Resources>,
    /// Seconds until training is stopped and the revision is refused. A download of the data may take half of them.
    /// Defaults to 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = TRAIN_DEADLINE_SECONDS_MAX))]
    pub deadline_seconds: Option<u32>,
}

/// The training data.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_KIND_OF_DATA)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// Synthetic rows, to try Canopy without data. Features are standard normal; the class is 1 if the sum of the
    /// first two is greater than 0, otherwise 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Synthetic")]
    pub synthetic: Option<Synthetic>,
    /// A CSV table with a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Csv")]
    pub csv: Option<Csv>,
}

/// Synthetic training data.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Synthetic {
    /// The number of rows. Defaults to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 10, max = SAMPLES_MAX))]
    pub samples: Option<u32>,
    /// The number of features. Defaults to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 2, max = SYNTHETIC_FEATURES_MAX))]
    pub features: Option<u32>,
    /// The random seed of the rows. Defaults to 42.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = SEED_MAX))]
    pub seed: Option<u64>,
}

/// A CSV table with a header.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Csv {
    /// Where the table is. Set exactly one of configMap and uri.
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
    /// An https:// or http:// address that the pods can reach. Users who can read the model can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = URI_MAX))]
    pub uri: Option<String>,
    /// The SHA-256 of the file at the uri, as sha256sum prints it. Required with uri, and only allowed with it. A file
    /// with another digest is refused. A new digest creates a new revision.
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
    /// The key in its data.
    #[schemars(length(min = 1, max = CONFIG_MAP_NAME_MAX), regex(pattern = CONFIG_MAP_KEY_PATTERN))]
    pub key: String,
}

/// The training algorithm.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_KIND_OF_ALGORITHM)]
#[serde(rename_all = "camelCase")]
pub struct Algorithm {
    /// A random forest: decision trees, each grown on random rows and features. The probability of a class is the
    /// mean of its shares in the leaves that a row reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RandomForest")]
    pub random_forest: Option<RandomForest>,
}

/// The parameters of a random forest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RandomForest {
    /// The number of trees. Defaults to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = TREES_MAX))]
    pub trees: Option<u32>,
    /// The maximum depth of a tree. Defaults to no limit: trees grow until leaves are pure or have minSamplesLeaf rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 100))]
    pub max_depth: Option<u32>,
    /// The minimum number of rows in a leaf. Defaults to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 100_000))]
    pub min_samples_leaf: Option<u32>,
    /// The number of random features that each split considers: the square root of all, the base-2 logarithm of
    /// all, or all. Defaults to Sqrt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MaxFeatures")]
    pub max_features: Option<MaxFeatures>,
    /// Whether each tree is grown on rows drawn with replacement, instead of all rows. Defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub bootstrap: Option<bool>,
    /// The random seed. The same seed and data give the same forest. Defaults to 42.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = SEED_MAX))]
    pub seed: Option<u64>,
}

/// The number of random features that each split considers.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxFeatures {
    /// The square root of the number of features.
    Sqrt,
    /// The base-2 logarithm of the number of features.
    Log2,
    /// All features.
    All,
}

/// The minimum quality of a model.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = GATE_IS_A_SHARE)]
#[serde(rename_all = "camelCase")]
pub struct QualityGate {
    /// What is measured on the held-out rows. Accuracy is the share of correct predictions.
    pub metric: Metric,
    /// The minimum, from 0 to 1: a whole number, or a decimal in quotes.
    pub min: Decimal,
}

/// A measure of quality.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metric {
    /// The share of rows that are predicted correctly.
    Accuracy,
}

/// One feature of a model.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = BOUNDS_ARE_IN_ORDER)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// The name of the feature.
    #[schemars(length(min = 1, max = LABEL_MAX))]
    pub name: String,
    /// The minimum value: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub min: Option<Decimal>,
    /// The maximum value: a whole number, or a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decimal")]
    pub max: Option<Decimal>,
}
