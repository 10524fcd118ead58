//! Resolves a model: fills in all defaults of its serving config, finds its data, and computes its revision.
//!
//! Nothing is read from files or from a cluster, and the model is checked even if an API server has done so.

use std::fmt;
use std::path::Path;

use canopy_contract::names::{DEFAULT_NAMESPACE, ModelName};
use canopy_contract::serving;
use kube::ResourceExt as _;

use crate::field_error::FieldError;
use crate::files::{File, Files, Kind};
use crate::imported::{Artifact, Evaluate, LabelledData};
use crate::manifest::ConfigMaps;
use crate::model::{
    self, ARTIFACT_SOURCE, EVALUATE_SOURCE, PredictorModel, PredictorModelSpec, RESTARTED_AT,
    SYNTHETIC_FEATURES, TRAIN_SOURCE,
};
use crate::revision::{self, SAMPLES, SEED, TEST_PERCENT};
use crate::source::Csv;
use crate::{convert, legacy, rules, schema};

/// The names of files in the folder that a model is resolved for: the training data, the model file, the evaluation data.
const DATA_FILE: &str = "data.csv";
const MODEL_FILE: &str = "model";
const EVALUATE_FILE: &str = "evaluate.csv";

/// A model with all its defaults, its files and its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedModel {
    /// The serving config of the predictor.
    pub config: serving::ServingConfig,
    /// The digest of all that its revision follows from; the revision's name is the beginning of it.
    pub meaning: String,
    /// The name that Canopy 0.1 would have given to the revision.
    pub legacy: String,
    /// The files that must exist before the predictor prepares the model, in the order of
    /// [`serving::ServingConfig::local_files`].
    pub files: Vec<File>,
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
    /// Resolves `model`. The predictor finds its files in `folder`.
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
        let mut files = Files::new(config_maps, &namespace, folder, download_seconds(spec));
        let train = spec.train.as_ref().map(|spec| train(spec, &mut files)).transpose()?;
        let artifact = spec.artifact.as_ref().map(|spec| import(spec, &mut files)).transpose()?;
        let evaluate = spec.evaluate.as_ref().map(|spec| evaluate(spec, &mut files)).transpose()?;
        let files = files.into_found();
        let restarted_at = model.annotations().get(RESTARTED_AT).map(String::as_str);
        let unnamed = |error| FieldError::at("spec", format!("has no revision: {error}"));
        let data = files.first().map(|file| file.bytes.as_slice());
        let legacy = legacy::legacy(spec, restarted_at, data).map_err(unnamed)?;

        let mut config = serving::ServingConfig {
            train,
            artifact,
            examples: convert::examples(spec)?,
            evaluate,
            features: spec.features.iter().flatten().map(convert::feature).collect(),
            classes: spec.classes.clone().unwrap_or_default(),
            version: spec.version.clone(),
            model: name,
            namespace,
            revision: String::new(),
        };
        let inputs = revision::Inputs { config: &config, spec, restarted_at, files: &files };
        let meaning = revision::meaning(inputs).map_err(unnamed)?;
        config.revision = revision::name_of(&meaning);
        Ok(Self { config, meaning, legacy, files })
    }
}

fn train(train: &model::Train, files: &mut Files<'_>) -> Result<serving::Train, FieldError> {
    let model::Train { data, algorithm, standardize, test_percent, gate, resources: _, deadline_seconds: _ } =
        train;
    let data = match data {
        model::Data { synthetic: Some(synthetic), csv: None } => {
            let model::Synthetic { samples, features, seed } = synthetic;
            serving::Data::Synthetic(serving::Synthetic {
                samples: samples.unwrap_or(SAMPLES),
                features: features.unwrap_or(SYNTHETIC_FEATURES),
                seed: seed.unwrap_or(SEED),
            })
        }
        model::Data { synthetic: None, csv: Some(csv) } => table(csv, TRAIN_SOURCE, DATA_FILE, files)?,
        model::Data { synthetic: None, csv: None } | model::Data { synthetic: Some(_), csv: Some(_) } => {
            return Err(FieldError::at("spec.train.data", model::ONE_KIND_OF_DATA.1));
        }
    };
    let gate = gate.as_ref().map(|gate| convert::gate("spec.train.gate", gate));
    Ok(serving::Train {
        data,
        algorithm: convert::algorithm(algorithm)?,
        standardize: standardize.unwrap_or(true),
        test_percent: test_percent.unwrap_or(TEST_PERCENT),
        gate: gate.transpose()?,
    })
}

fn import(artifact: &Artifact, files: &mut Files<'_>) -> Result<serving::Import, FieldError> {
    let Artifact { source, format } = artifact;
    let source = files.add(ARTIFACT_SOURCE, source, MODEL_FILE, Kind::Model)?;
    Ok(serving::Import { source, format: format.map(convert::format) })
}

fn evaluate(evaluate: &Evaluate, files: &mut Files<'_>) -> Result<serving::Evaluate, FieldError> {
    let Evaluate { data: LabelledData { csv }, gate } = evaluate;
    let data = table(csv, EVALUATE_SOURCE, EVALUATE_FILE, files)?;
    let gate = gate.as_ref().map(|gate| convert::gate("spec.evaluate.gate", gate));
    Ok(serving::Evaluate { data, gate: gate.transpose()? })
}

fn table(csv: &Csv, field: &str, name: &str, files: &mut Files<'_>) -> Result<serving::Data, FieldError> {
    let Csv { source, target } = csv;
    let source = files.add(field, source, name, Kind::Table)?;
    Ok(serving::Data::Csv { source, target: target.clone() })
}

/// How long each download may take. All downloads together take less than the deadline, so that a slow server is reported
/// as such and not as an exceeded deadline.
fn download_seconds(spec: &PredictorModelSpec) -> u32 {
    let downloads = spec.sources().filter(|(_, source)| source.uri.is_some());
    let shares = downloads.fold(1_u32, |shares, _| shares.saturating_add(1));
    spec.deadline_seconds().div_ceil(shares)
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
        assert_eq!(plan.files, []);
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
        let [file] = &plan.files[..] else { panic!("{:?}", plan.files) };
        assert_eq!(file.path, Path::new("/data/data.csv"));
        assert_eq!(str::from_utf8(&file.bytes).unwrap().lines().count(), 151);
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
        assert_eq!(found.files, []);
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
        model.spec.train.as_mut().unwrap().data.csv.as_mut().unwrap().source.sha256 = None;
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
        model.spec.train.as_mut().unwrap().data.synthetic = None;
        assert_eq!(refused(&model), "spec.train.data: exactly one of synthetic and csv must be given");
        model.spec.train.as_mut().unwrap().test_percent = Some(100);
        assert_eq!(refused(&model), "spec.train.testPercent: must be at most 90, but is 100");
    }
}
