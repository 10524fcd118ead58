//! Each case edits a valid manifest and expects one error. Errors of CEL rules must be those of the API server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod rules;

use canopy_resource::manifest::{self, ManifestError};
use canopy_resource::model::PredictorModel;
use kube::CustomResourceExt as _;
use kube::core::cel::Validator;
use serde_json::{Value, json};

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A manifest with every field.
fn good() -> Value {
    json!({
        "apiVersion": "canopy.rs/v1alpha1",
        "kind": "PredictorModel",
        "metadata": {"name": "iris", "namespace": "shop", "labels": {"team": "flowers"}},
        "spec": {
            "version": "1.0",
            "train": {
                "data": {"csv": {"source": {"configMap": {"name": "iris-data", "key": "iris.csv"}}, "target": "species"}},
                "algorithm": {"randomForest": {
                    "trees": 10, "maxDepth": 5, "minSamplesLeaf": 2, "maxFeatures": "All", "bootstrap": false, "seed": 7,
                }},
                "standardize": false,
                "testPercent": 30,
                "gate": {"metric": "Accuracy", "min": "0.9"},
                "resources": {"limits": {"cpu": "500m"}},
                "deadlineSeconds": 30,
            },
            "features": [
                {"name": "length", "min": "-0.5", "max": 10},
                {"name": "width", "min": 0},
            ],
            "classes": ["setosa", "virginica"],
            "replicas": 3,
            "resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}, "limits": {"memory": "2Gi"}},
            "scheduling": {
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "spot", "operator": "Exists"}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
                "priorityClassName": "high",
                "topologySpreadConstraints": [
                    {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
                ],
            },
            "retireSeconds": 0,
            "paused": false,
        },
    })
}

/// A manifest of a model file with every field that only such a model has.
fn good_import() -> Value {
    let source = |key: &str| json!({"configMap": {"name": "price-files", "key": key}});
    json!({
        "apiVersion": "canopy.rs/v1alpha1",
        "kind": "PredictorModel",
        "metadata": {"name": "price"},
        "spec": {
            "version": "1.0",
            "artifact": {"source": source("price.onnx"), "format": "ONNX"},
            "examples": [
                {"features": ["-0.5", "red", ""], "expected": {"value": "3.25", "tolerance": "0.001"}},
                {"features": [1, "blue", 2], "expected": {"value": 4}},
            ],
            "evaluate": {
                "data": {"csv": {"source": source("rows.csv"), "target": "price"}},
                "gate": {"metric": "MeanAbsoluteError", "max": "0.5"},
            },
            "features": [
                {"name": "size", "type": "Numeric", "min": "-1"},
                {"name": "colour", "type": "Categorical", "values": ["red", "blue"]},
                {"name": "age"},
            ],
        },
    })
}

fn synthetic() -> Value {
    json!({"synthetic": {"samples": 100, "features": 2, "seed": 1}})
}

/// The valid manifest of a trained model with `value` at `place`; null removes the field.
fn edited(place: &str, value: Value) -> Value {
    with(good(), place, value)
}

fn with(mut manifest: Value, place: &str, value: Value) -> Value {
    let (parent, member) = place.rsplit_once('/').unwrap();
    let around = manifest.pointer_mut(parent).unwrap();
    if let Value::Array(entries) = around {
        entries.insert(member.parse().unwrap(), value);
    } else {
        around[member] = value;
    }
    manifest
}

fn faults(manifest: &Value) -> Vec<String> {
    match manifest::read(&manifest.to_string()) {
        Ok(_) => Vec::new(),
        Err(ManifestError::Faults(findings)) => findings.iter().map(|f| f.fault.to_string()).collect(),
        Err(ManifestError::Syntax(error)) => panic!("{error}"),
    }
}

/// The errors of the rules of the CRD, evaluated as an API server does.
fn broken_rules(manifest: &Value) -> Vec<String> {
    let definition = json!(PredictorModel::crd());
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let errors = Validator::new().validate(schema, manifest, None).err();
    errors
        .iter()
        .flatten()
        .map(|error| {
            let place = if error.field_path.is_empty() { "" } else { ": " };
            format!("{}{place}{}", error.field_path, error.message)
        })
        .collect()
}

#[track_caller]
fn check_import(place: &str, value: &Value, expected: &str) {
    assert_eq!(faults(&with(good_import(), place, value.clone())), [expected], "{place} = {value}");
}

#[track_caller]
fn check(place: &str, value: &Value, expected: &str) {
    assert_eq!(faults(&edited(place, value.clone())), [expected], "{place} = {value}");
}

#[test]
fn a_manifest_with_every_field_is_read() {
    assert_eq!(faults(&good()), Vec::<String>::new());
    assert_eq!(broken_rules(&good()), Vec::<String>::new());
    assert_eq!((faults(&good_import()), broken_rules(&good_import())), (Vec::new(), Vec::new()));
    assert_eq!(faults(&edited("/spec/train/data", synthetic())), Vec::<String>::new());
    for uri in ["http://user:word@[::1]:80/a.csv?v=2#x", "https://data.shop"] {
        let remote = edited("/spec/train/data/csv/source", json!({"uri": uri, "sha256": SHA256}));
        assert_eq!((faults(&remote), broken_rules(&remote)), (Vec::new(), Vec::new()), "{uri}");
    }
}

#[test]
fn a_field_that_does_not_exist_is_named() {
    check(
        "/spec/verzion",
        &json!("1"),
        "spec.verzion: unknown field; known fields are artifact, classes, evaluate, examples, features, paused, replicas, resources, retireSeconds, scheduling, \
         train, version",
    );
    check(
        "/spec/train/algorithm/randomForest/depth",
        &json!(3),
        "spec.train.algorithm.randomForest.depth: unknown field; known fields are bootstrap, maxDepth, maxFeatures, minSamplesLeaf, seed, trees",
    );
    check(
        "/spec/features/0",
        &json!({"name": "x", "minimum": 1}),
        "spec.features[0].minimum: unknown field; known fields are max, min, name, type, values",
    );
    assert!(faults(&edited("/metadata/nam", json!("x")))[0].starts_with("metadata.nam: unknown field"));
}

#[test]
fn missing_fields_are_reported() {
    check("/spec/version", &Value::Null, "spec.version: is required");
    check("/spec/train/data", &Value::Null, "spec.train.data: is required");
    check("/spec/train/algorithm", &Value::Null, "spec.train.algorithm: is required");
    check("/spec/train/data/csv/target", &Value::Null, "spec.train.data.csv.target: is required");
    check("/spec/train/data/csv/source", &Value::Null, "spec.train.data.csv.source: is required");
    check("/spec/train/gate", &json!({"min": 1}), "spec.train.gate.metric: is required");
    check("/spec/features/0", &json!({"min": 1}), "spec.features[0].name: is required");
    check("/metadata", &Value::Null, "metadata: is required");
    check("/kind", &Value::Null, "kind: is required: PredictorModel or ConfigMap");
}

#[test]
fn a_value_of_the_wrong_type_is_reported_with_the_expected_type() {
    check("/spec", &json!([]), "spec: must be an object, but is a list");
    check(
        "/spec/version",
        &json!(1.0),
        "spec.version: must be text, in quotes where it looks like something else, but is 1.0",
    );
    check(
        "/spec/train/standardize",
        &json!("yes"),
        "spec.train.standardize: must be true or false, but is \"yes\"",
    );
    check(
        "/spec/train/testPercent",
        &json!(12.5),
        "spec.train.testPercent: must be a whole number, but is 12.5",
    );
    check("/spec/features", &json!({}), "spec.features: must be a list, but is an object");
    check(
        "/spec/train/gate/min",
        &json!(0.9),
        "spec.train.gate.min: must be a whole number, or a decimal in quotes, but is 0.9",
    );
    check(
        "/spec/train/gate/min",
        &json!("high"),
        "spec.train.gate.min: must match ^-?[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$, but is \"high\"",
    );
    check(
        "/spec/features/0",
        &json!({"name": "x", "min": "NaN"}),
        "spec.features[0].min: must match ^-?[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$, but is \"NaN\"",
    );
    check(
        "/spec/train/algorithm/randomForest/maxFeatures",
        &json!("sqrt"),
        "spec.train.algorithm.randomForest.maxFeatures: must be one of Sqrt, Log2, All, but is \"sqrt\"",
    );
    check(
        "/spec/train/gate/metric",
        &json!("F1"),
        "spec.train.gate.metric: must be one of Accuracy, R2, MeanAbsoluteError, RootMeanSquaredError, but is \"F1\"",
    );
    check(
        "/metadata/labels/team",
        &json!(true),
        "metadata.labels.team: must be text, in quotes where it looks like something else, but is true",
    );
}

#[test]
fn bounds_are_checked() {
    let forest = "/spec/train/algorithm/randomForest";
    let field = "spec.train.algorithm.randomForest";
    check(&format!("{forest}/trees"), &json!(0), &format!("{field}.trees: must be at least 1, but is 0"));
    check(
        &format!("{forest}/trees"),
        &json!(1001),
        &format!("{field}.trees: must be at most 1000, but is 1001"),
    );
    check(
        &format!("{forest}/maxDepth"),
        &json!(101),
        &format!("{field}.maxDepth: must be at most 100, but is 101"),
    );
    check(
        &format!("{forest}/minSamplesLeaf"),
        &json!(0),
        &format!("{field}.minSamplesLeaf: must be at least 1, but is 0"),
    );
    check(&format!("{forest}/seed"), &json!(-1), &format!("{field}.seed: must be at least 0, but is -1"));
    check(
        &format!("{forest}/seed"),
        &json!(1_u64 << 32),
        &format!("{field}.seed: must be at most 4294967295, but is 4294967296"),
    );
    check("/spec/train/testPercent", &json!(91), "spec.train.testPercent: must be at most 90, but is 91");
    check(
        "/spec/train/data",
        &json!({"synthetic": {"samples": 9, "features": 2}}),
        "spec.train.data.synthetic.samples: must be at least 10, but is 9",
    );
    check(
        "/spec/train/data",
        &json!({"synthetic": {"features": 1}}),
        "spec.train.data.synthetic.features: must be at least 2, but is 1",
    );
}

#[test]
fn lengths_and_patterns_are_checked() {
    check("/spec/version", &json!(""), "spec.version: must not be empty");
    check(
        "/spec/version",
        &json!("v".repeat(64)),
        "spec.version: must have at most 63 characters, but has 64",
    );
    check(
        "/spec/version",
        &json!("1.0 beta"),
        "spec.version: must match ^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$, but is \"1.0 beta\"",
    );
    check(
        "/spec/train/data/csv/source/configMap/name",
        &json!("Iris"),
        "spec.train.data.csv.source.configMap.name: must match ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$, but is \"Iris\"",
    );
    check(
        "/spec/train/data/csv/source/configMap/key",
        &json!("a/b"),
        "spec.train.data.csv.source.configMap.key: must match ^[-._a-zA-Z0-9]+$, but is \"a/b\"",
    );
    check("/spec/features", &json!([]), "spec.features: must have at least 1 entries, but has 0");
    check("/spec/classes", &json!(["one"]), "spec.classes: must have at least 2 entries, but has 1");
    check("/spec/classes/0", &json!(""), "spec.classes[0]: must not be empty");
    let many: Vec<_> = (0..257).map(|index| format!("c{index}")).collect();
    check("/spec/classes", &json!(many), "spec.classes: must have at most 256 entries, but has 257");
}

#[test]
fn resources_and_scheduling_are_checked() {
    check("/spec/replicas", &json!(-1), "spec.replicas: must be at least 0, but is -1");
    check("/spec/retireSeconds", &json!(86401), "spec.retireSeconds: must be at most 86400, but is 86401");
    check(
        "/spec/train/deadlineSeconds",
        &json!(0),
        "spec.train.deadlineSeconds: must be at least 1, but is 0",
    );
    check("/spec/paused", &json!("yes"), "spec.paused: must be true or false, but is \"yes\"");
    check(
        "/spec/resources",
        &json!({"requests": {"cpu": "much"}}),
        "spec.resources.requests.cpu: must match ^[0-9]+(\\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$, but is \"much\"",
    );
    check(
        "/spec/resources",
        &json!({"claims": []}),
        "spec.resources.claims: unknown field; known fields are limits, requests",
    );
    check(
        "/spec/scheduling",
        &json!({"priorityClassName": "High"}),
        "spec.scheduling.priorityClassName: must match ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$, but is \"High\"",
    );
    check(
        "/spec/scheduling",
        &json!({"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1}]}),
        "spec.scheduling.topologySpreadConstraints[0].whenUnsatisfiable: is required",
    );
    let many: serde_json::Map<_, _> = (0..33).map(|index| (format!("label{index}"), json!("x"))).collect();
    check(
        "/spec/scheduling",
        &json!({"nodeSelector": many}),
        "spec.scheduling.nodeSelector: must have at most 32 entries, but has 33",
    );
}

#[test]
fn a_name_given_twice_is_refused() {
    check(
        "/spec/features/2",
        &json!({"name": "length"}),
        "spec.features[2]: \"length\" is already in entry 0",
    );
    check("/spec/classes/1", &json!("setosa"), "spec.classes[1]: \"setosa\" is already in entry 0");
}

#[test]
fn other_kinds_and_versions_are_named() {
    check(
        "/kind",
        &json!("Deployment"),
        "kind: Deployment is not read here; only PredictorModel, ConfigMap and Namespace are",
    );
    check(
        "/apiVersion",
        &json!("canopy.rs/v1"),
        "apiVersion: must be canopy.rs/v1alpha1, but is \"canopy.rs/v1\"",
    );
}

#[test]
fn errors_in_the_fields_of_a_model_file_are_reported() {
    check_import("/spec/artifact/source", &Value::Null, "spec.artifact.source: is required");
    check_import(
        "/spec/artifact/format",
        &json!("Pickle"),
        "spec.artifact.format: must be one of ONNX, LightGBM, XGBoost, Skops, Canopy, but is \"Pickle\"",
    );
    check_import(
        "/spec/artifact/source/file",
        &json!("/models/price.onnx"),
        "spec.artifact.source.file: unknown field; known fields are configMap, sha256, uri",
    );
    check_import(
        "/spec/examples/0/features/0",
        &json!(0.5),
        "spec.examples[0].features[0]: must be a whole number, or text in quotes, but is 0.5",
    );
    check_import(
        "/spec/examples/0/features/0",
        &Value::Null,
        "spec.examples[0].features[0]: must be a whole number, or text in quotes, but is null",
    );
    check_import(
        "/spec/examples/0/features",
        &json!([]),
        "spec.examples[0].features: must have at least 1 entries, but has 0",
    );
    check_import("/spec/examples/0/expected", &Value::Null, "spec.examples[0].expected: is required");
    check_import(
        "/spec/examples/0/expected",
        &json!({"class": -1}),
        "spec.examples[0].expected.class: must be at least 0, but is -1",
    );
    let one = &good_import()["spec"]["examples"][0];
    check_import(
        "/spec/examples",
        &json!(vec![one; 33]),
        "spec.examples: must have at most 32 entries, but has 33",
    );
    check_import(
        "/spec/evaluate/data/synthetic",
        &json!({}),
        "spec.evaluate.data.synthetic: unknown field; known fields are csv",
    );
    check_import(
        "/spec/features/1/values",
        &json!(["red", "red"]),
        "spec.features[1].values[1]: \"red\" is already in entry 0",
    );
}
