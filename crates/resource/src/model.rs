//! The Rust types of the resource `PredictorModel`; its CRD is generated from them.
//!
//! Absent fields stay absent. Defaults are filled in by `resolve`, so a newer Canopy does not see an old manifest as changed.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::feature::Feature;
use crate::imported::{Artifact, Evaluate, Example};
use crate::placement::{Resources, Scheduling};
use crate::quality::QualityGate;
use crate::source::{Csv, LABEL_MAX, Rule, Source};
use crate::status::PredictorModelStatus;

/// The default number of replicas.
pub const REPLICAS: i32 = 2;
/// The default of `retireSeconds`.
pub const RETIRE_SECONDS: u32 = 60;
/// The default of `train.deadlineSeconds`.
pub const TRAIN_DEADLINE_SECONDS: u32 = 600;
/// The annotation of a model whose value is part of its revision: another value restarts it.
pub const RESTARTED_AT: &str = "canopy.rs/restartedAt";

/// The fields with the sources of files.
pub(crate) const TRAIN_SOURCE: &str = "spec.train.data.csv.source";
pub(crate) const ARTIFACT_SOURCE: &str = "spec.artifact.source";
pub(crate) const EVALUATE_SOURCE: &str = "spec.evaluate.data.csv.source";

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
const EXAMPLES_MAX: u32 = 32;

/// The version becomes the value of a label of pods and metrics.
const VERSION_PATTERN: &str = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

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
pub(crate) const ONE_KIND_OF_ALGORITHM: Rule =
    ("[has(self.randomForest)].filter(given, given).size() == 1", "randomForest must be given");
pub(crate) const TRAIN_OR_ARTIFACT: Rule = (
    "[has(self.train), has(self.artifact)].filter(given, given).size() == 1",
    "exactly one of train and artifact must be given",
);
pub(crate) const EVALUATE_OF_AN_ARTIFACT: Rule = (
    "!has(self.evaluate) || has(self.artifact)",
    "evaluate is only allowed with artifact: a model with train is evaluated on held-out rows of its data",
);
pub(crate) const CATEGORIES_OF_AN_ARTIFACT: Rule = (
    "!has(self.features) || has(self.artifact) || self.features.all(feature, !has(feature.values))",
    "type Categorical is only allowed with artifact: training takes numbers",
);
pub(crate) const TRAINING_MAKES_CLASSIFIERS: Rule = (
    "!has(self.gate) || self.gate.metric == 'Accuracy'",
    "gate.metric must be Accuracy: training makes classifiers",
);
pub(crate) const EVERY_SYNTHETIC_FEATURE_IS_NAMED: Rule = (
    "!has(self.features) || !has(self.train) || !has(self.train.data.synthetic) || size(self.features) == \
     (has(self.train.data.synthetic.features) ? self.train.data.synthetic.features : 4)",
    "features must have as many entries as train.data.synthetic.features says (4 unless given)",
);
pub(crate) const SYNTHETIC_CLASSES_ARE_TWO: Rule = (
    "!has(self.classes) || !has(self.train) || !has(self.train.data.synthetic) || size(self.classes) == 2",
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
    doc = "A model that Canopy trains or reads from a file, checks, and serves.",
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
#[x_kube(
    validation = TRAIN_OR_ARTIFACT,
    validation = EVALUATE_OF_AN_ARTIFACT,
    validation = CATEGORIES_OF_AN_ARTIFACT,
    validation = EVERY_SYNTHETIC_FEATURE_IS_NAMED,
    validation = SYNTHETIC_CLASSES_ARE_TWO
)]
#[serde(rename_all = "camelCase")]
pub struct PredictorModelSpec {
    /// Your name for this version of the model. Every prediction, metric and trace has it.
    #[schemars(length(min = 1, max = 63), regex(pattern = VERSION_PATTERN))]
    pub version: String,
    /// How the model is trained. Each change is trained before the model gets requests. Set exactly one of train and
    /// artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Train")]
    pub train: Option<Train>,
    /// A model file of another library. It is checked before the model gets requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Artifact")]
    pub artifact: Option<Artifact>,
    /// Rows with the answers that the model must give. A model with another answer never gets requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Example>", length(min = 1, max = EXAMPLES_MAX))]
    pub examples: Option<Vec<Example>>,
    /// How a model with artifact is evaluated. Defaults to no evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Evaluate")]
    pub evaluate: Option<Evaluate>,
    /// The features in the order of the values in a request, with bounds. A request with a value out of bounds is
    /// refused, with the name of the feature. For CSV data, list all columns except the target, in any order.
    /// Defaults to these columns in the order of the table, without bounds, or to the features in the model file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Feature>", length(min = 1, max = FEATURES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub features: Option<Vec<Feature>>,
    /// The names of the classes; the first has index 0. For CSV data, list the values of the target column, or names
    /// for them if the values are the whole numbers from 0. Defaults to the sorted values of the target, or to the
    /// classes in the model file.
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
    /// Resources of each serving pod, also while it reads the file of artifact. Defaults to small requests without
    /// limits.
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

impl PredictorModelSpec {
    /// The deadline of the preparation, in seconds: training has its own, reading a model file the default.
    pub fn deadline_seconds(&self) -> u32 {
        self.train.as_ref().and_then(|train| train.deadline_seconds).unwrap_or(TRAIN_DEADLINE_SECONDS)
    }

    /// The sources of the files that the model is made from, each with its field.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, &Source)> {
        let train = self.train.as_ref().and_then(|train| train.data.csv.as_ref());
        let evaluate = self.evaluate.as_ref().map(|evaluate| &evaluate.data.csv);
        [
            (TRAIN_SOURCE, train.map(|csv| &csv.source)),
            (ARTIFACT_SOURCE, self.artifact.as_ref().map(|artifact| &artifact.source)),
            (EVALUATE_SOURCE, evaluate.map(|csv| &csv.source)),
        ]
        .into_iter()
        .filter_map(|(field, source)| Some((field, source?)))
    }
}

/// How a model is trained.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = TRAINING_MAKES_CLASSIFIERS)]
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
