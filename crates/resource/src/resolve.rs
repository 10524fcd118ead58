//! Resolves a model: fills in all defaults of its serving config, finds its data, and computes its revision.
//!
//! Nothing is read from files or from a cluster, and the model is checked even if an API server has done so.

use std::fmt;
use std::path::{Path, PathBuf};

use canopy_contract::describe::Metric;
use canopy_contract::names::{DEFAULT_NAMESPACE, ModelName};
use canopy_contract::schema::Feature;
use canopy_contract::serving;
use kube::ResourceExt as _;

use crate::binary::binary_kind;
use crate::decimal::Decimal;
use crate::field_error::FieldError;
use crate::manifest::ConfigMaps;
use crate::model::{self, PredictorModel, RESTARTED_AT, SYNTHETIC_FEATURES, TRAIN_DEADLINE_SECONDS};
use crate::revision::{self, MIN_SAMPLES_LEAF, SAMPLES, SEED, TEST_PERCENT, TREES};
use crate::{legacy, rules, schema};

/// The name of the file with the data, in the folder that a plan is made for.
const DATA_FILE: &str = "data.csv";

/// A model with all its defaults, its data and its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedModel {
    /// The serving config of the predictor.
    pub config: serving::ServingConfig,
    /// The digest of all that its revision follows from; the revision's name is the beginning of it.
    pub meaning: String,
    /// The name that Canopy 0.1 would have given to the revision.
    pub legacy: String,
    /// The data file that must exist before the predictor starts.
    pub file: Option<File>,
}

/// A file and what must be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path in the config.
    pub path: PathBuf,
    /// The contents.
    pub text: String,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A model that cannot be resolved, with at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidModel {
    /// Every fault that was found.
    pub faults: Vec<FieldError>,
}

impl fmt::Display for InvalidModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join("; "))
    }
}

impl std::error::Error for InvalidModel {}

impl From<FieldError> for InvalidModel {
    fn from(fault: FieldError) -> Self {
        Self { faults: vec![fault] }
    }
}

impl ResolvedModel {
    /// Resolves `model`. The predictor finds its data in `folder`.
    pub fn new(
        model: &PredictorModel,
        config_maps: &ConfigMaps,
        folder: &Path,
    ) -> Result<Self, InvalidModel> {
        let document = serde_json::to_value(model)
            .map_err(|error| FieldError::at("", format!("cannot be serialized: {error}")))?;
        for faults in [schema::check(&document, &schema::PREDICTOR_MODEL), rules::check(model)] {
            if !faults.is_empty() {
                return Err(InvalidModel { faults });
            }
        }

        let spec = &model.spec;
        let name = ModelName::try_from(model.name_any())
            .map_err(|error| FieldError::at("metadata.name", error.why()))?;
        let namespace = model.namespace().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let path = folder.join(DATA_FILE);
        let Rows { data, text } = rows(&spec.train, config_maps, &namespace, &path)?;
        let restarted_at = model.annotations().get(RESTARTED_AT).map(String::as_str);
        let unnamed = |error| FieldError::at("spec", format!("has no revision: {error}"));
        let legacy = legacy::legacy(spec, restarted_at, text).map_err(unnamed)?;

        let mut config = serving::ServingConfig {
            train: Some(train(&spec.train, data)?),
            artifact: None,
            examples: Vec::new(),
            evaluate: None,
            features: spec.features.iter().flatten().map(feature).collect(),
            classes: spec.classes.clone().unwrap_or_default(),
            version: spec.version.clone(),
            model: name,
            namespace,
            revision: String::new(),
        };
        let file = text.map(|text| File { path, text: text.to_owned(), sha256: revision::sha256(text) });
        let data = file.as_ref().map(|file| file.sha256.as_str());
        let inputs = revision::Inputs { config: &config, spec, restarted_at, data };
        let meaning = revision::meaning(inputs).map_err(unnamed)?;
        config.revision = revision::name_of(&meaning);
        Ok(Self { config, meaning, legacy, file })
    }
}

/// Where rows come from, and the text that must be there first.
struct Rows<'a> {
    data: serving::Data,
    text: Option<&'a str>,
}

fn rows<'a>(
    train: &model::Train,
    config_maps: &'a ConfigMaps,
    namespace: &str,
    path: &Path,
) -> Result<Rows<'a>, FieldError> {
    match &train.data {
        model::Data { synthetic: Some(synthetic), csv: None } => {
            let model::Synthetic { samples, features, seed } = synthetic;
            let data = serving::Data::Synthetic(serving::Synthetic {
                samples: samples.unwrap_or(SAMPLES),
                features: features.unwrap_or(SYNTHETIC_FEATURES),
                seed: seed.unwrap_or(SEED),
            });
            Ok(Rows { data, text: None })
        }
        model::Data { synthetic: None, csv: Some(model::Csv { source, target }) } => {
            let (source, text) = match source {
                model::Source { config_map: Some(key), uri: None, sha256: None } => {
                    (serving::Source::Path(path.to_owned()), Some(text(key, config_maps, namespace)?))
                }
                model::Source { config_map: None, uri: Some(uri), sha256: Some(sha256) } => {
                    (serving::Source::Download(download(uri, sha256, train.deadline_seconds)), None)
                }
                model::Source { config_map: _, uri: _, sha256: _ } => {
                    return Err(FieldError::at("spec.train.data.csv.source", model::ONE_KIND_OF_SOURCE.1));
                }
            };
            Ok(Rows { data: serving::Data::Csv { source, target: target.clone() }, text })
        }
        model::Data { synthetic: None, csv: None } | model::Data { synthetic: Some(_), csv: Some(_) } => {
            Err(FieldError::at("spec.train.data", model::ONE_KIND_OF_DATA.1))
        }
    }
}

/// A download may take half of the deadline, so that a slow server is reported as such and not as an exceeded deadline.
fn download(uri: &str, sha256: &str, deadline_seconds: Option<u32>) -> serving::Download {
    let deadline = deadline_seconds.unwrap_or(TRAIN_DEADLINE_SECONDS);
    serving::Download {
        uri: uri.to_owned(),
        sha256: sha256.to_owned(),
        timeout_seconds: deadline.div_ceil(2),
    }
}

/// The text under a key of a `ConfigMap`.
fn text<'a>(
    model::ConfigMapKey { name, key }: &model::ConfigMapKey,
    config_maps: &'a ConfigMaps,
    namespace: &str,
) -> Result<&'a str, FieldError> {
    const FIELD: &str = "spec.train.data.csv.source.configMap";
    let Some(config_map) = config_maps.get(namespace, name) else {
        let why = format!("there is no ConfigMap {name} in namespace {namespace}; add it beside the model");
        return Err(FieldError::at(format!("{FIELD}.name"), why));
    };
    if let Some(text) = config_map.data.as_ref().and_then(|data| data.get(key)) {
        return Ok(text);
    }
    let why = if let Some(bytes) = config_map.binary_data.as_ref().and_then(|data| data.get(key)) {
        let (kind, advice) = binary_kind(&bytes.0);
        format!("{key} of ConfigMap {name} is {kind}, but must be CSV as text under data: {advice}")
    } else {
        let keys: Vec<_> = config_map.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
        let keys =
            if keys.is_empty() { "it has no data".to_owned() } else { format!("it has {}", keys.join(", ")) };
        format!("ConfigMap {name} has no key {key}; {keys}")
    };
    Err(FieldError::at(format!("{FIELD}.key"), why))
}

fn train(train: &model::Train, data: serving::Data) -> Result<serving::Train, FieldError> {
    let model::Train {
        data: _,
        algorithm,
        standardize,
        test_percent,
        gate,
        resources: _,
        deadline_seconds: _,
    } = train;
    Ok(serving::Train {
        data,
        algorithm: method(algorithm)?,
        standardize: standardize.unwrap_or(true),
        test_percent: test_percent.unwrap_or(TEST_PERCENT),
        gate: gate.as_ref().map(quality).transpose()?,
    })
}

fn method(algorithm: &model::Algorithm) -> Result<serving::Algorithm, FieldError> {
    let model::Algorithm { random_forest } = algorithm;
    let Some(forest) = random_forest else {
        return Err(FieldError::at("spec.train.algorithm", model::ONE_KIND_OF_ALGORITHM.1));
    };
    let model::RandomForest { trees, max_depth, min_samples_leaf, max_features, bootstrap, seed } = forest;
    Ok(serving::Algorithm::RandomForest(serving::RandomForest {
        trees: trees.unwrap_or(TREES),
        max_depth: *max_depth,
        min_samples_leaf: min_samples_leaf.unwrap_or(MIN_SAMPLES_LEAF),
        max_features: match max_features {
            Some(model::MaxFeatures::Sqrt) | None => serving::MaxFeatures::Sqrt,
            Some(model::MaxFeatures::Log2) => serving::MaxFeatures::Log2,
            Some(model::MaxFeatures::All) => serving::MaxFeatures::All,
        },
        bootstrap: bootstrap.unwrap_or(true),
        seed: seed.unwrap_or(SEED),
    }))
}

fn quality(gate: &model::QualityGate) -> Result<serving::QualityGate, FieldError> {
    let model::QualityGate { metric: model::Metric::Accuracy, min } = gate;
    let Some(min) = min.number() else {
        return Err(FieldError::at("spec.train.gate", model::GATE_IS_A_SHARE.1));
    };
    Ok(serving::QualityGate { metric: Metric::Accuracy, min: Some(min), max: None })
}

fn feature(feature: &model::Feature) -> Feature {
    let model::Feature { name, min, max } = feature;
    let number = |bound: &Option<Decimal>| bound.as_ref().and_then(Decimal::number);
    Feature { name: name.clone(), min: number(min), max: number(max) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use serde_json::json;

    const IRIS: &str = include_str!("../../../deploy/samples/iris.yaml");

    fn plan(text: &str) -> Result<ResolvedModel, InvalidModel> {
        let manifests = manifest::read(text).unwrap();
        ResolvedModel::new(&manifests.models[0], &manifests.config_maps, Path::new("/data"))
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(plan(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_resolved_model_has_all_defaults() {
        let smallest = "{apiVersion: canopy.rs/v1alpha1, kind: PredictorModel, metadata: {name: small}, spec: \
                        {version: a, train: {data: {synthetic: {}}, algorithm: {randomForest: {}}}}}";
        let plan = plan(smallest).unwrap();
        assert_eq!(
            json!(plan.config),
            json!({
                "model": "small",
                "namespace": "default",
                "version": "a",
                "revision": plan.config.revision,
                "train": {
                    "data": {"synthetic": {"samples": 1000, "features": 4, "seed": 42}},
                    "algorithm": {"randomForest": {
                        "trees": 100, "minSamplesLeaf": 1, "maxFeatures": "Sqrt", "bootstrap": true, "seed": 42,
                    }},
                    "standardize": true,
                    "testPercent": 20,
                },
                "features": [],
                "classes": [],
            })
        );
        assert_eq!(plan.file, None);
    }

    #[test]
    fn a_resolved_model_has_all_settings_of_the_manifest() {
        let text = IRIS
            .replace("name: iris\n", "name: iris\n  namespace: shop\n")
            .replace("name: iris-data\n", "name: iris-data\n  namespace: shop\n")
            .replace(
                "{trees: 100, seed: 42}",
                "{trees: 7, maxDepth: 3, minSamplesLeaf: 2, maxFeatures: Log2, bootstrap: false, seed: 1}",
            )
            .replace("standardize: true", "standardize: false")
            .replace("testPercent: 20", "testPercent: 30")
            .replace("{name: sepal_width, min: 0, max: 20}", "{name: sepal_width, max: \"2.5e1\"}");
        let plan = plan(&text).unwrap();
        assert_eq!(
            json!(plan.config),
            json!({
                "model": "iris",
                "namespace": "shop",
                "version": "1.0",
                "revision": plan.config.revision,
                "train": {
                    "data": {"csv": {"source": {"path": "/data/data.csv"}, "target": "species"}},
                    "algorithm": {"randomForest": {
                        "trees": 7, "maxDepth": 3, "minSamplesLeaf": 2, "maxFeatures": "Log2", "bootstrap": false,
                        "seed": 1,
                    }},
                    "standardize": false,
                    "testPercent": 30,
                    "gate": {"metric": "Accuracy", "min": 0.9},
                },
                "features": [
                    {"name": "sepal_length", "min": 0.0, "max": 20.0},
                    {"name": "sepal_width", "max": 25.0},
                    {"name": "petal_length", "min": 0.0, "max": 20.0},
                    {"name": "petal_width", "min": 0.0, "max": 20.0},
                ],
                "classes": ["setosa", "versicolor", "virginica"],
            })
        );
        let file = plan.file.unwrap();
        assert_eq!(file.path, Path::new("/data/data.csv"));
        assert_eq!(file.text.lines().count(), 151);
    }

    #[test]
    fn an_edit_of_the_data_is_another_revision() {
        let (one, other) =
            (plan(IRIS).unwrap(), plan(&IRIS.replace("5.1,3.5,1.4,0.2", "5.1,3.5,1.4,0.3")).unwrap());
        assert_ne!(one.config.revision, other.config.revision);
        assert_eq!(one.config.revision, plan(IRIS).unwrap().config.revision);
    }

    const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// The iris model with its data elsewhere.
    fn remote(source: &str) -> String {
        IRIS.replace("configMap: {name: iris-data, key: iris.csv}", source)
    }

    #[test]
    fn a_download_may_take_half_of_the_deadline() {
        let source = format!("uri: 'https://data.shop/iris.csv?v=2'\n          sha256: {SHA256}");
        let found = plan(&remote(&source)).unwrap();
        assert_eq!(found.file, None);
        let download = |seconds: u32| json!({"uri": "https://data.shop/iris.csv?v=2", "sha256": SHA256, "timeoutSeconds": seconds});
        assert_eq!(
            json!(found.config.train.unwrap().data),
            json!({"csv": {"source": {"download": download(300)}, "target": "species"}})
        );
        for (deadline, seconds) in [(1, 1), (61, 31), (3600, 1800)] {
            let text = remote(&source)
                .replace("testPercent: 20", &format!("testPercent: 20\n    deadlineSeconds: {deadline}"));
            let data = json!(plan(&text).unwrap().config.train.unwrap().data);
            assert_eq!(data["csv"]["source"]["download"], download(seconds));
        }
    }

    #[test]
    fn another_address_or_another_digest_is_another_revision() {
        let revision = |uri: &str, sha256: &str| {
            plan(&remote(&format!("{{uri: '{uri}', sha256: {sha256}}}"))).unwrap().config.revision
        };
        let one = revision("https://data.shop/iris.csv", SHA256);
        assert_eq!(one, revision("https://data.shop/iris.csv", SHA256));
        assert_ne!(one, revision("https://data.shop/iris.csv?v=2", SHA256));
        assert_ne!(one, revision("https://data.shop/iris.csv", &SHA256.replace('9', "8")));
    }

    #[test]
    fn a_uri_without_a_digest_is_refused_without_an_api_server() {
        let text = remote(&format!("{{uri: 'https://data.shop/iris.csv', sha256: {SHA256}}}"));
        let mut model = manifest::read(&text).unwrap().models.remove(0);
        model.spec.train.data.csv.as_mut().unwrap().source.sha256 = None;
        let refusal =
            ResolvedModel::new(&model, &ConfigMaps::default(), Path::new("")).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "spec.train.data.csv.source: sha256 must be given with uri, and only with it: it is what sha256sum prints for the file"
        );
    }

    #[test]
    fn missing_data_are_named_in_the_error() {
        let field = "spec.train.data.csv.source.configMap";
        check_refused(
            &IRIS.replace("name: iris-data\n", "name: other-data\n"),
            &format!(
                "{field}.name: there is no ConfigMap iris-data in namespace default; add it beside the model"
            ),
        );
        check_refused(
            &IRIS.replace("name: iris-data\n", "name: iris-data\n  namespace: shop\n"),
            &format!(
                "{field}.name: there is no ConfigMap iris-data in namespace default; add it beside the model"
            ),
        );
        check_refused(
            &IRIS.replace("key: iris.csv", "key: flowers.csv"),
            &format!("{field}.key: ConfigMap iris-data has no key flowers.csv; it has iris.csv"),
        );
        let (model, _) = IRIS.split_once("\ndata:\n").unwrap();
        check_refused(
            model,
            &format!("{field}.key: ConfigMap iris-data has no key iris.csv; it has no data"),
        );
        check_refused(
            &format!("{model}\nbinaryData: {{iris.csv: KLUv/QAA}}\n"),
            &format!(
                "{field}.key: iris.csv of ConfigMap iris-data is compressed by zstd, but must be CSV as text under data: \
                 unpack it with unzstd"
            ),
        );
    }

    #[test]
    fn a_model_that_was_not_validated_is_validated() {
        let mut model = manifest::read(manifest::DEMO).unwrap().models.remove(0);
        let refused = |model: &PredictorModel| {
            ResolvedModel::new(model, &ConfigMaps::default(), Path::new("")).unwrap_err().to_string()
        };
        model.spec.train.data.synthetic = None;
        assert_eq!(refused(&model), "spec.train.data: exactly one of synthetic and csv must be given");
        model.spec.train.test_percent = Some(100);
        assert_eq!(refused(&model), "spec.train.testPercent: must be at most 90, but is 100");
    }
}
