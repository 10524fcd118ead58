//! The revision of a model: a short digest of what its spec and its data mean.
//!
//! Two spellings of the same wish (a default written out, `0.50` for `0.5`, `1000m` for `1`) are one revision. A
//! value that is the default is left out of the digest, so a field that a newer Canopy adds changes no digest. The
//! digests are in the names of objects in people's clusters: the tests below pin them.

use canopy_contract::describe::Metric;
use canopy_contract::names::REVISION_DIGITS;
use canopy_contract::schema::Feature;
use canopy_contract::serving::{
    Algorithm, Data, Download, Evaluate, Example, ExampleValue, Expected, Import, MaxFeatures, ModelFormat,
    QualityGate, RandomForest, ServingConfig, Source, Synthetic, Train,
};
use serde_json::Value;

use crate::digest::sha256;
use crate::files::File;
use crate::model::{PredictorModelSpec, SYNTHETIC_FEATURES};
use crate::normal::Normal;
use crate::placement::{Resources, Scheduling};

/// The first bytes of the digested text: the version of the normal form.
const FORM: &[u8] = b"canopy.rs/v1alpha1 PredictorModel, form 1\n";

/// What a manifest leaves out. These are part of the digest: a value that changes here retrains models.
pub(crate) const SAMPLES: u32 = 1000;
pub(crate) const TREES: u32 = 100;
pub(crate) const MIN_SAMPLES_LEAF: u32 = 1;
pub(crate) const TEST_PERCENT: u8 = 20;
pub(crate) const SEED: u64 = 42;

/// What the revision follows from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The serving config, with every default filled in.
    pub config: &'a ServingConfig,
    /// The spec, for the parts that the config does not have: resources and scheduling.
    pub spec: &'a PredictorModelSpec,
    /// The time of a wished restart.
    pub restarted_at: Option<&'a str>,
    /// The files that come from `ConfigMap`s.
    pub files: &'a [File],
}

/// The digest of all that a revision follows from, in hexadecimal.
pub fn meaning(inputs: Inputs<'_>) -> Result<String, serde_json::Error> {
    let Inputs { config, spec, restarted_at, files } = inputs;
    // Every field is named, so that a new one is either part of the revision or left out on purpose. A model of
    // another name may have the same revision: its objects have other names.
    let ServingConfig {
        model: _,
        namespace: _,
        revision: _,
        version,
        train,
        artifact,
        examples,
        evaluate,
        features,
        classes,
    } = config;
    let PredictorModelSpec {
        version: _,
        train: in_spec,
        artifact: _,
        examples: _,
        evaluate: _,
        features: _,
        classes: _,
        resources,
        scheduling,
        replicas: _,
        retire_seconds: _,
        paused: _,
    } = spec;
    let feature = |Feature { name, min, max, missing: _, categories }: &Feature| {
        Normal::map([
            ("name", Some(Normal::text(name))),
            ("min", min.map(Normal::float)),
            ("max", max.map(Normal::float)),
            ("categories", list(categories.iter().map(Normal::text))),
        ])
    };
    let train_resources = in_spec.as_ref().and_then(|train| train.resources.as_ref());
    let all = Normal::map([
        ("version", Some(Normal::text(version))),
        ("train", train.as_ref().map(|train| training(train, files))),
        ("artifact", artifact.as_ref().map(|import| import_form(import, files))),
        ("examples", list(examples.iter().map(example))),
        ("evaluate", evaluate.as_ref().map(|evaluate| evaluation(evaluate, files))),
        ("features", list(features.iter().map(feature))),
        ("classes", list(classes.iter().map(Normal::text))),
        ("trainResources", train_resources.map(resources_form)),
        ("resources", resources.as_ref().map(resources_form)),
        ("scheduling", scheduling.as_ref().map(scheduling_form).transpose()?.flatten()),
        ("restartedAt", restarted_at.map(Normal::text)),
    ]);
    let mut bytes = FORM.to_vec();
    all.write(&mut bytes);
    Ok(sha256(&bytes))
}

/// The name of the revision with this meaning.
pub fn name_of(meaning: &str) -> String {
    meaning.chars().take(REVISION_DIGITS).collect()
}

fn training(train: &Train, files: &[File]) -> Normal {
    let Train { data, algorithm, standardize, test_percent, gate } = train;
    Normal::map([
        ("data", Some(rows(data, files))),
        ("algorithm", Some(method(algorithm))),
        ("standardize", (!standardize).then(|| Normal::whole(false))),
        ("testPercent", unless(*test_percent, TEST_PERCENT)),
        ("gate", gate.as_ref().map(gate_form)),
    ])
}

fn import_form(import: &Import, files: &[File]) -> Normal {
    let Import { source, format } = import;
    let format = format.map(|format| match format {
        ModelFormat::Onnx => "ONNX",
        ModelFormat::LightGbm => "LightGBM",
        ModelFormat::XgBoost => "XGBoost",
        ModelFormat::Skops => "Skops",
        ModelFormat::MlFlow => "MLflow",
        ModelFormat::Canopy => "Canopy",
    });
    Normal::map([("source", Some(file(source, files))), ("format", format.map(Normal::text))])
}

fn example(Example { features, expected }: &Example) -> Normal {
    let value = |value: &ExampleValue| match value {
        ExampleValue::Number(number) => Normal::map([("number", Some(Normal::float(*number)))]),
        ExampleValue::Category(name) => Normal::map([("category", Some(Normal::text(name)))]),
        ExampleValue::Missing => Normal::map([]),
    };
    let Expected { class, label, value: of_regression, tolerance } = expected;
    Normal::map([
        ("features", list(features.iter().map(value))),
        ("class", class.map(Normal::whole)),
        ("label", label.as_ref().map(Normal::text)),
        ("value", of_regression.map(Normal::float)),
        ("tolerance", tolerance.map(Normal::float)),
    ])
}

fn evaluation(Evaluate { data, gate }: &Evaluate, files: &[File]) -> Normal {
    Normal::map([("data", Some(rows(data, files))), ("gate", gate.as_ref().map(gate_form))])
}

fn gate_form(QualityGate { metric, min, max }: &QualityGate) -> Normal {
    let metric = match metric {
        Metric::Accuracy => "Accuracy",
        Metric::R2 => "R2",
        Metric::MeanAbsoluteError => "MeanAbsoluteError",
        Metric::RootMeanSquaredError => "RootMeanSquaredError",
    };
    Normal::map([
        ("metric", Some(Normal::text(metric))),
        ("min", min.map(Normal::float)),
        ("max", max.map(Normal::float)),
    ])
}

fn rows(data: &Data, files: &[File]) -> Normal {
    match data {
        Data::Synthetic(Synthetic { samples, features, seed }) => {
            let synthetic = Normal::map([
                ("samples", unless(*samples, SAMPLES)),
                ("features", unless(*features, SYNTHETIC_FEATURES)),
                ("seed", unless(*seed, SEED)),
            ]);
            Normal::map([("synthetic", Some(synthetic))])
        }
        Data::Csv { source, target } => {
            Normal::map([("csv", Some(file(source, files))), ("target", Some(Normal::text(target)))])
        }
    }
}

fn file(source: &Source, files: &[File]) -> Normal {
    match source {
        // The path of the copy is chosen by the operator and is not digested; the contents are.
        Source::Path(path) => {
            let copy = files.iter().find(|file| file.path == *path);
            Normal::map([("sha256", copy.map(|copy| Normal::text(&copy.sha256)))])
        }
        // How long a download may take changes nothing about the model.
        Source::Download(Download { uri, sha256, timeout_seconds: _ }) => {
            Normal::map([("uri", Some(Normal::text(uri))), ("sha256", Some(Normal::text(sha256)))])
        }
    }
}

fn method(algorithm: &Algorithm) -> Normal {
    let Algorithm::RandomForest(forest) = algorithm;
    let RandomForest { trees, max_depth, min_samples_leaf, max_features, bootstrap, seed } = forest;
    let max_features = match max_features {
        MaxFeatures::Sqrt => None,
        MaxFeatures::Log2 => Some(Normal::text("Log2")),
        MaxFeatures::All => Some(Normal::text("All")),
    };
    let forest = Normal::map([
        ("trees", unless(*trees, TREES)),
        ("maxDepth", max_depth.map(Normal::whole)),
        ("minSamplesLeaf", unless(*min_samples_leaf, MIN_SAMPLES_LEAF)),
        ("maxFeatures", max_features),
        ("bootstrap", (!bootstrap).then(|| Normal::whole(false))),
        ("seed", unless(*seed, SEED)),
    ]);
    Normal::map([("randomForest", Some(forest))])
}

/// Without `resources` there are default requests, with empty ones there are none: these are two wishes.
fn resources_form(Resources { requests, limits }: &Resources) -> Normal {
    let amounts = |amounts: &std::collections::BTreeMap<_, _>| {
        let amount = |(name, amount): (&String, &_)| (name.clone(), Normal::quantity(amount));
        (!amounts.is_empty()).then(|| Normal::Map(amounts.iter().map(amount).collect()))
    };
    Normal::map([
        ("requests", requests.as_ref().and_then(amounts)),
        ("limits", limits.as_ref().and_then(amounts)),
    ])
}

fn scheduling_form(scheduling: &Scheduling) -> Result<Option<Normal>, serde_json::Error> {
    let Scheduling { node_selector, tolerations, affinity, priority_class_name, topology_spread_constraints } =
        scheduling;
    // An empty object at the top of each part is the same as no object.
    let form = |part: Value| Normal::json(&part).filter(|part| !part.is_empty_map());
    let parts = Normal::map([
        ("nodeSelector", form(serde_json::to_value(node_selector)?)),
        ("tolerations", form(serde_json::to_value(tolerations)?)),
        ("affinity", form(serde_json::to_value(affinity)?)),
        ("priorityClassName", priority_class_name.as_ref().map(Normal::text)),
        ("topologySpreadConstraints", form(serde_json::to_value(topology_spread_constraints)?)),
    ]);
    Ok((!parts.is_empty_map()).then_some(parts))
}

fn unless(value: impl Into<u64>, default: impl Into<u64>) -> Option<Normal> {
    let value = value.into();
    (value != default.into()).then(|| Normal::whole(value))
}

fn list(entries: impl Iterator<Item = Normal>) -> Option<Normal> {
    let entries: Vec<_> = entries.collect();
    (!entries.is_empty()).then_some(Normal::List(entries))
}
