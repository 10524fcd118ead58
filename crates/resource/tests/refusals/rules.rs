//! Each case edits a valid manifest so that it breaks exactly one rule of the CRD. The error must be that of the API server.

use std::collections::BTreeSet;

use canopy_resource::model::PredictorModel;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::{SHA256, broken_rules, edited, faults, good, good_import, synthetic, with};

/// Edits that break exactly one rule, and its error text, which is the same here and in the CRD.
fn trained() -> Vec<(&'static str, Value, &'static str)> {
    const LABEL: &str =
        "metadata.name must be lower-case letters, digits and '-', begin with a letter and not end with '-'";
    const FREE: &str = "metadata.name is reserved for objects that Canopy creates ('predictors', '…-pods', '…-<8 hexadecimal digits>')";
    const DIGEST: &str = "spec.train.data.csv.source: sha256 must be given with uri, and only with it: it is what sha256sum prints for the file";
    const URI: &str =
        "spec.train.data.csv.source: uri must begin with https:// or http://, name a host and have no spaces";
    const SHA: &str =
        "spec.train.data.csv.source: sha256 must be 64 of the digits 0-9 and a-f, as sha256sum prints them";
    vec![
        ("/metadata/name", json!("Iris"), LABEL),
        ("/metadata/name", json!("1st"), LABEL),
        ("/metadata/name", json!("iris-"), LABEL),
        ("/metadata/name", json!("iris.x"), LABEL),
        ("/metadata/name", json!("i".repeat(46)), "metadata.name must be at most 45 characters"),
        ("/metadata/name", json!("predictors"), FREE),
        ("/metadata/name", json!("iris-pods"), FREE),
        ("/metadata/name", json!("iris-6f3a9c1e"), FREE),
        ("/spec/train/data", json!({}), "spec.train.data: exactly one of synthetic and csv must be given"),
        (
            "/spec/train/data/synthetic",
            json!({"features": 2}),
            "spec.train.data: exactly one of synthetic and csv must be given",
        ),
        (
            "/spec/train/data/csv/source",
            json!({}),
            "spec.train.data.csv.source: exactly one of configMap and uri must be given",
        ),
        ("/spec/train/data/csv/source", json!({"uri": "https://x/y"}), DIGEST),
        ("/spec/train/data/csv/source/sha256", json!(SHA256), DIGEST),
        ("/spec/train/data/csv/source", json!({"uri": "ftp://x/y", "sha256": SHA256}), URI),
        ("/spec/train/data/csv/source", json!({"uri": "https:///y", "sha256": SHA256}), URI),
        ("/spec/train/data/csv/source", json!({"uri": "http://x/a b", "sha256": SHA256}), URI),
        ("/spec/train/data/csv/source", json!({"uri": "http://x", "sha256": SHA256.replace('9', "F")}), SHA),
        ("/spec/train/data/csv/source", json!({"uri": "http://x", "sha256": &SHA256[1..]}), SHA),
        ("/spec/train/algorithm", json!({}), "spec.train.algorithm: randomForest must be given"),
        ("/spec/train/gate/min", json!("1.01"), "spec.train.gate: min must be between 0 and 1"),
        ("/spec/train/gate/min", json!(-1), "spec.train.gate: min must be between 0 and 1"),
        (
            "/spec/features/1",
            json!({"name": "x", "min": "0.5", "max": "5e-2"}),
            "spec.features[1]: min must not be greater than max",
        ),
        (
            "/spec/features/1",
            json!({"name": "x", "min": 3, "max": "2.5"}),
            "spec.features[1]: min must not be greater than max",
        ),
        (
            "/spec/train/data",
            json!({"synthetic": {}}),
            "spec: features must have as many entries as train.data.synthetic.features says (4 unless given)",
        ),
        (
            "/spec/train/data",
            json!({"synthetic": {"features": 3}}),
            "spec: features must have as many entries as train.data.synthetic.features says (4 unless given)",
        ),
    ]
}

/// The same for a model file.
fn imported() -> Vec<(&'static str, Value, &'static str)> {
    const EXPECTED: &str = "spec.examples[0].expected: exactly one of class, label and value must be given";
    const TOLERANCE: &str =
        "spec.examples[0].expected: tolerance must be at least 0, and is only allowed with value";
    const BOUND: &str = "spec.evaluate.gate: min must be given for Accuracy and R2, max for MeanAbsoluteError and \
                         RootMeanSquaredError, and not the other";
    const VALUES: &str = "spec.features[0]: values must be given with type Categorical, and only with it";
    const NUMBERS: &str =
        "spec.features[1]: min and max must not be given with values: they are bounds of numbers";
    vec![
        (
            "/spec/artifact/source",
            json!({}),
            "spec.artifact.source: exactly one of configMap and uri must be given",
        ),
        (
            "/spec/evaluate/data/csv/source",
            json!({"uri": "ftp://x/y", "sha256": SHA256}),
            "spec.evaluate.data.csv.source: uri must begin with https:// or http://, name a host and have no spaces",
        ),
        ("/spec/examples/0/expected", json!({}), EXPECTED),
        ("/spec/examples/0/expected", json!({"class": 1, "label": "a"}), EXPECTED),
        ("/spec/examples/0/expected", json!({"label": "a", "tolerance": 1}), TOLERANCE),
        ("/spec/examples/0/expected", json!({"value": 1, "tolerance": "-0.5"}), TOLERANCE),
        ("/spec/evaluate/gate", json!({"metric": "R2", "max": 1}), BOUND),
        ("/spec/evaluate/gate", json!({"metric": "RootMeanSquaredError", "min": 1, "max": 1}), BOUND),
        (
            "/spec/evaluate/gate",
            json!({"metric": "R2", "min": "1.5"}),
            "spec.evaluate.gate: min must be between 0 and 1",
        ),
        (
            "/spec/evaluate/gate",
            json!({"metric": "MeanAbsoluteError", "max": "-0.5"}),
            "spec.evaluate.gate: max must be at least 0",
        ),
        ("/spec/features/0", json!({"name": "x", "type": "Categorical"}), VALUES),
        ("/spec/features/0", json!({"name": "x", "type": "Numeric", "values": ["a"]}), VALUES),
        ("/spec/features/0", json!({"name": "x", "values": ["a"]}), VALUES),
        ("/spec/features/1/min", json!(0), NUMBERS),
        ("/spec/features/1/max", json!(1), NUMBERS),
    ]
}

/// Every case: a manifest and the error.
fn cases() -> Vec<(Value, String)> {
    const ONE: &str = "spec: exactly one of train and artifact must be given";
    let trained = trained().into_iter().map(|(place, value, expected)| (edited(place, value), expected));
    let imported =
        imported().into_iter().map(|(place, value, expected)| (with(good_import(), place, value), expected));
    // Rules about two fields need more than one edit.
    let mut three_classes = edited("/spec/train/data", synthetic());
    three_classes["spec"]["classes"] = json!(["a", "b", "c"]);
    let both = edited("/spec/artifact", good_import()["spec"]["artifact"].clone());
    let mut neither = good();
    neither["spec"].as_object_mut().unwrap().remove("train");
    let evaluated = edited("/spec/evaluate", good_import()["spec"]["evaluate"].clone());
    let category = edited("/spec/features/2", json!({"name": "c", "type": "Categorical", "values": ["a"]}));
    let regression = edited("/spec/train/gate", json!({"metric": "R2", "min": "0.5"}));
    let more = [
        (three_classes, "spec: classes must have 2 entries where the data is synthetic"),
        (both, ONE),
        (neither, ONE),
        (
            evaluated,
            "spec: evaluate is only allowed with artifact: a model with train is evaluated on held-out rows of its data",
        ),
        (category, "spec: type Categorical is only allowed with artifact: training takes numbers"),
        (regression, "spec.train: gate.metric must be Accuracy: training makes classifiers"),
    ];
    trained.chain(imported).chain(more).map(|(manifest, expected)| (manifest, expected.to_owned())).collect()
}

#[test]
fn every_rule_of_the_crd_is_checked_without_an_api_server() {
    for (manifest, expected) in cases() {
        let ours: Vec<_> = faults(&manifest)
            .iter()
            .map(|fault| fault.replace("metadata.name: ", "metadata.name "))
            .collect();
        assert_eq!(ours, [expected.as_str()], "{manifest}");
        assert_eq!(broken_rules(&manifest), [expected.as_str()], "{manifest}");
    }
}

#[test]
fn every_rule_of_the_crd_has_a_case() {
    fn messages(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                let rules = members.get("x-kubernetes-validations").and_then(Value::as_array);
                found.extend(
                    rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap().to_owned()),
                );
                members.values().for_each(|below| messages(below, found));
            }
            Value::Array(entries) => entries.iter().for_each(|below| messages(below, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut unbroken = BTreeSet::new();
    messages(&json!(PredictorModel::crd()), &mut unbroken);
    assert_eq!(unbroken.len(), 23);
    unbroken.retain(|message| !cases().iter().any(|(_, expected)| expected.ends_with(message)));
    assert_eq!(unbroken, BTreeSet::new());
}
