//! The serving config: the settings of a model for `prepare` and `serve`, as JSON with all defaults filled in.
//!
//! An unknown field is an error, because ignoring it would silently drop a setting.

use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::describe::Metric;
use crate::names::ModelName;
use crate::schema::Feature;

/// The settings with which a predictor prepares and serves a model: one that it trains, or one from a file. A config with
/// both or neither is an error when it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct ServingConfig {
    /// The model's name.
    pub model: ModelName,
    /// The namespace it lives in.
    pub namespace: String,
    /// Its version, as people label it.
    pub version: String,
    /// Its revision: a digest of its spec and data.
    pub revision: String,
    /// How the model is trained, if Canopy trains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
    /// Where the model is read from, if it was trained elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Import>,
    /// Rows with the answers that the model must give before it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
    /// How a model from a file is evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Evaluate>,
    /// Names and bounds of the features; empty where the data names them and nothing bounds them.
    pub features: Vec<Feature>,
    /// Names of the classes; empty where the data names them.
    pub classes: Vec<String>,
}

impl ServingConfig {
    /// The local files that the model depends on, in this order: the training data, the model file, the evaluation data.
    /// Files at a URL are not included.
    pub fn local_files(&self) -> impl Iterator<Item = &Path> {
        let train = self.train.as_ref().and_then(|train| train.data.source());
        let artifact = self.artifact.as_ref().map(|import| &import.source);
        let evaluate = self.evaluate.as_ref().and_then(|evaluate| evaluate.data.source());
        [train, artifact, evaluate].into_iter().flatten().filter_map(|source| match source {
            Source::Path(path) => Some(path.as_path()),
            Source::Download(_) => None,
        })
    }

    fn check(&self) -> Result<(), String> {
        match (&self.train, &self.artifact) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => {
                return Err("exactly one of train and artifact must be given".to_owned());
            }
        }
        if self.train.is_some() && self.evaluate.is_some() {
            return Err(
                "evaluate must only be given with artifact: train has its own data and gate".to_owned()
            );
        }
        let gates = [
            self.train.as_ref().and_then(|train| train.gate.as_ref()),
            self.evaluate.as_ref().and_then(|evaluate| evaluate.gate.as_ref()),
        ];
        gates.into_iter().flatten().try_for_each(QualityGate::check)?;
        self.examples.iter().enumerate().try_for_each(|(index, example)| {
            example.expected.check().map_err(|error| format!("examples[{index}].expected: {error}"))
        })
    }
}

impl Serialize for ServingConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ServingConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        config.check().map_err(D::Error::custom)?;
        Ok(config)
    }
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

impl Data {
    /// The file with the rows, unless they are synthetic.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Synthetic(_) => None,
            Self::Csv { source, target: _ } => Some(source),
        }
    }
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

/// The quality that a model must have: the bound that its metric needs, `min` or `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QualityGate {
    /// The metric that is computed on the held-out rows.
    pub metric: Metric,
    /// The minimum, for a metric that is higher for better models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The maximum, for a metric that is lower for better models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl QualityGate {
    /// Whether a model with this value of the metric passes. A value that is not a number does not pass.
    pub fn admits(&self, value: f64) -> bool {
        !value.is_nan() && self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }

    fn check(&self) -> Result<(), String> {
        let Self { metric, min, max } = self;
        let (needed, other) = match metric {
            Metric::Accuracy | Metric::R2 => (("min", min), ("max", max)),
            Metric::MeanAbsoluteError | Metric::RootMeanSquaredError => (("max", max), ("min", min)),
        };
        if needed.1.is_some() && other.1.is_none() {
            return Ok(());
        }
        Err(format!("a gate on {metric:?} must have {} and no {}", needed.0, other.0))
    }
}

/// A model file that was trained elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Import {
    /// The file.
    pub source: Source,
    /// Its format; recognized by its content if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ModelFormat>,
}

/// The format of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelFormat {
    /// ONNX.
    #[serde(rename = "ONNX")]
    Onnx,
    /// The text format of `LightGBM`.
    #[serde(rename = "LightGBM")]
    LightGbm,
    /// The JSON or UBJ format of `XGBoost`.
    #[serde(rename = "XGBoost")]
    XgBoost,
    /// The format of skops for scikit-learn.
    Skops,
    /// A model folder of `MLflow`.
    #[serde(rename = "MLflow")]
    MlFlow,
    /// An artifact of Canopy.
    Canopy,
}

/// A row with the answer that the model must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Example {
    /// One value for each feature, in the order of the features.
    pub features: Vec<ExampleValue>,
    /// The answer.
    pub expected: Expected,
}

/// A value in the row of an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExampleValue {
    /// A number.
    Number(f64),
    /// The name of a category.
    Category(String),
    /// A missing value: `null`.
    Missing,
}

/// The expected answer: exactly one of `class`, `label` and `value`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// The index of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<u32>,
    /// The name of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The value of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The greatest accepted difference to `value`, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

impl Expected {
    fn check(&self) -> Result<(), String> {
        let Self { class, label, value, tolerance } = self;
        if [class.is_some(), label.is_some(), value.is_some()].into_iter().filter(|given| *given).count() != 1
        {
            return Err("exactly one of class, label and value must be given".to_owned());
        }
        match tolerance {
            Some(_) if value.is_none() => Err("tolerance must only be given with value".to_owned()),
            Some(tolerance) if *tolerance < 0.0 => {
                Err(format!("tolerance must be at least 0, got {tolerance}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// How a model from a file is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evaluate {
    /// Labelled rows that the model was not trained on.
    pub data: Data,
    /// The quality that the model must have; one that misses it never serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<QualityGate>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A config as Canopy wrote it before there were model files.
    fn trained() -> Value {
        json!({
            "model": "iris", "namespace": "default", "version": "1.0", "revision": "6f3a9c1e", "features": [], "classes": [],
            "train": {
                "data": {"csv": {"source": {"path": "/data/data.csv"}, "target": "species"}},
                "algorithm": {"randomForest": {
                    "trees": 100, "minSamplesLeaf": 1, "maxFeatures": "Sqrt", "bootstrap": true, "seed": 42,
                }},
                "standardize": true, "testPercent": 20, "gate": {"metric": "Accuracy", "min": 0.9},
            },
        })
    }

    fn imported() -> Value {
        json!({
            "model": "price", "namespace": "default", "version": "1.0", "revision": "6f3a9c1e", "features": [], "classes": [],
            "artifact": {"source": {"path": "/data/model"}, "format": "LightGBM"},
            "examples": [{"features": [1.5, "red", null], "expected": {"value": 3.0, "tolerance": 0.1}}],
            "evaluate": {"data": {"csv": {"source": {"path": "/data/evaluate.csv"}, "target": "price"}}},
        })
    }

    fn read(config: &Value) -> Result<ServingConfig, String> {
        serde_json::from_value(config.clone()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_refused(mut config: Value, pointer: &str, value: Value, expected: &str) {
        *config.pointer_mut(pointer).unwrap() = value;
        assert_eq!(read(&config).unwrap_err(), expected);
    }

    #[test]
    fn a_config_is_written_as_it_was_read() {
        for config in [trained(), imported()] {
            assert_eq!(json!(read(&config).unwrap()), config);
        }
    }

    #[test]
    fn local_files_are_listed_in_a_fixed_order_without_downloads() {
        let files =
            |config: &Value| read(config).unwrap().local_files().map(Path::to_owned).collect::<Vec<_>>();
        assert_eq!(files(&trained()), [Path::new("/data/data.csv")]);
        assert_eq!(files(&imported()), [Path::new("/data/model"), Path::new("/data/evaluate.csv")]);
        let mut remote = imported();
        remote["artifact"]["source"] =
            json!({"download": {"uri": "http://a", "sha256": "0", "timeoutSeconds": 1}});
        assert_eq!(files(&remote), [Path::new("/data/evaluate.csv")]);
    }

    #[test]
    fn a_config_has_either_training_or_a_model_file() {
        let one = "exactly one of train and artifact must be given";
        check_refused(trained(), "/train", Value::Null, one);
        let mut both = trained();
        both["artifact"] = imported()["artifact"].take();
        assert_eq!(read(&both).unwrap_err(), one);
        let mut evaluated = trained();
        evaluated["evaluate"] = imported()["evaluate"].take();
        assert!(read(&evaluated).unwrap_err().starts_with("evaluate must only be given with artifact"));
    }

    #[test]
    fn an_example_expects_exactly_one_answer() {
        let one = "examples[0].expected: exactly one of class, label and value must be given";
        let at = "/examples/0/expected";
        check_refused(imported(), at, json!({}), one);
        check_refused(imported(), at, json!({"class": 1, "label": "a"}), one);
        let value = "examples[0].expected: tolerance must only be given with value";
        check_refused(imported(), at, json!({"class": 1, "tolerance": 0.5}), value);
        let least = "examples[0].expected: tolerance must be at least 0, got -1";
        check_refused(imported(), at, json!({"value": 1, "tolerance": -1}), least);
    }

    #[test]
    fn a_gate_has_the_bound_of_its_metric() {
        let needs = "a gate on Accuracy must have min and no max";
        for gate in [json!({"metric": "Accuracy"}), json!({"metric": "Accuracy", "min": 0.5, "max": 1.0})] {
            check_refused(trained(), "/train/gate", gate, needs);
        }
        let errors = json!({"metric": "MeanAbsoluteError", "min": 0.5});
        check_refused(
            trained(),
            "/train/gate",
            errors,
            "a gate on MeanAbsoluteError must have max and no min",
        );
        let gate = read(&trained()).unwrap().train.unwrap().gate.unwrap();
        assert_eq!([0.89, 0.9, f64::NAN].map(|value| gate.admits(value)), [false, true, false]);
    }
}
