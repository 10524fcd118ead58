//! The serving config: the settings of a model for `prepare` and `serve`, as JSON with all defaults filled in.
//!
//! An unknown field is an error, because ignoring it would silently drop a setting.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::describe::Metric;
use crate::names::ModelName;
use crate::schema::Feature;

/// The settings with which a predictor trains and serves a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServingConfig {
    /// The model's name.
    pub model: ModelName,
    /// The namespace it lives in.
    pub namespace: String,
    /// Its version, as people label it.
    pub version: String,
    /// Its revision: a digest of its spec and data.
    pub revision: String,
    /// How the model comes to be.
    pub train: Train,
    /// Names and bounds of the features; empty where the data names them and nothing bounds them.
    pub features: Vec<Feature>,
    /// Names of the classes; empty where the data names them.
    pub classes: Vec<String>,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Train {
    /// From which rows.
    pub data: Data,
    /// By which method.
    pub algorithm: Algorithm,
    /// Whether features are scaled to mean 0 and standard deviation 1 first, for methods that depend on scale. A random
    /// forest does not, and learns from values as they are.
    pub standardize: bool,
    /// The percentage of rows that are held out for evaluation.
    pub test_percent: u8,
    /// The minimum quality; a model below it never serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<QualityGate>,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Data {
    /// Synthetic: standard normal features, class 1 where the first two add up to more than 0.
    Synthetic(Synthetic),
    /// A CSV file with a header.
    Csv {
        /// The file.
        source: Source,
        /// The column to predict.
        target: String,
    },
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// A local path.
    Path(PathBuf),
    /// A URL.
    Download(Download),
}

/// A file on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Download {
    /// Its address, `https://…` or `http://…`. It may contain a password or a signature, so it must not be logged whole.
    pub uri: String,
    /// The SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// How long the whole download may take, in seconds.
    pub timeout_seconds: u32,
}

/// Synthetic training data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Synthetic {
    /// Rows.
    pub samples: u32,
    /// Columns, at least two.
    pub features: u32,
    /// The random seed.
    pub seed: u64,
}

/// The method of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Algorithm {
    /// Many trees, each on its own draw of rows and features, voting with their class shares.
    RandomForest(RandomForest),
}

impl Algorithm {
    /// The seed of the draws of training, which also decides the rows that are held out.
    pub fn seed(&self) -> u64 {
        match self {
            Self::RandomForest(RandomForest { seed, .. }) => *seed,
        }
    }
}

/// The parameters of a random forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RandomForest {
    /// The number of trees.
    pub trees: u32,
    /// The maximum depth of a tree; unlimited if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u32>,
    /// The minimum number of rows in a leaf.
    pub min_samples_leaf: u32,
    /// The number of random features that a split considers.
    pub max_features: MaxFeatures,
    /// Whether each tree draws its rows with replacement, or takes all.
    pub bootstrap: bool,
    /// The random seed.
    pub seed: u64,
}

/// The number of random features that a split considers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxFeatures {
    /// The square root of their number, rounded down.
    Sqrt,
    /// The logarithm of their number to base 2, rounded down.
    Log2,
    /// All.
    All,
}

/// The minimum quality of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QualityGate {
    /// The metric that is computed on the held-out rows.
    pub metric: Metric,
    /// The minimum.
    pub min: f64,
}
