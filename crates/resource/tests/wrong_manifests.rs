//! The manifests of `tests/golden/refusals` are refused with the text in their first line, `# refused: …`.
//!
//! The e2e tests expect the same of a real API server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use canopy_resource::manifest::{self, ManifestError};
use canopy_resource::model::PredictorModel;
use kube::CustomResourceExt as _;
use kube::core::cel::Validator;
use serde_json::{Value, json};

struct Wrong {
    text: String,
    words: String,
}

/// Every file, by its name.
fn all() -> BTreeMap<String, Wrong> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/refusals");
    let read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let words = text.lines().next().and_then(|line| line.strip_prefix("# refused: "));
        let words = words.unwrap_or_else(|| panic!("{}: no words in its first line", path.display()));
        Wrong { words: words.to_owned(), text }
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&path))).collect()
}

fn faults(text: &str) -> Vec<String> {
    match manifest::read(text) {
        Ok(_) => Vec::new(),
        Err(ManifestError::Faults(findings)) => findings.iter().map(|f| f.fault.to_string()).collect(),
        Err(ManifestError::Syntax(error)) => panic!("{error}"),
    }
}

/// The errors of the rules of the CRD, evaluated as an API server does.
fn broken_rules(schema: &Value, text: &str) -> Vec<String> {
    let manifest: Value = serde_saphyr::from_str(text).unwrap();
    let errors = Validator::new().validate(schema, &manifest, None).err();
    errors.iter().flatten().map(|error| error.message.clone()).collect()
}

/// The messages of all rules of a schema.
fn messages(schema: &Value) -> BTreeSet<String> {
    match schema {
        Value::Object(members) => {
            let rules = members.get("x-kubernetes-validations").and_then(Value::as_array);
            let own = rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap().to_owned());
            own.chain(members.values().flat_map(messages)).collect()
        }
        Value::Array(entries) => entries.iter().flat_map(messages).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

#[test]
fn each_sample_is_refused_for_its_one_error() {
    let all = all();
    assert!(all.len() >= 14, "only {} are there", all.len());
    for (name, Wrong { text, words }) in &all {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{name}: {faults:?}");
        // Errors of names have a field and a text here, and one sentence in the rules.
        let told = faults[0].replace("metadata.name: ", "metadata.name ");
        assert!(told.contains(words.as_str()), "{name} must be refused with {words:?}, but: {told}");
    }
}

#[test]
fn an_error_of_a_rule_has_the_same_text_in_the_crd() {
    let definition = json!(PredictorModel::crd());
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let messages = messages(schema);
    let mut by_rule = 0;
    for (name, Wrong { text, words }) in all() {
        if !messages.iter().any(|message| message.contains(&words)) {
            continue;
        }
        by_rule += 1;
        let broken = broken_rules(schema, &text);
        assert_eq!(broken.len(), 1, "{name}: {broken:?}");
        assert!(broken[0].contains(&words), "{name} must be refused with {words:?}, but: {broken:?}");
    }
    assert!(by_rule >= messages.len(), "{by_rule} files for {} rules", messages.len());
}

#[test]
fn every_rule_of_the_crd_has_a_sample_file() {
    let definition = json!(PredictorModel::crd());
    let all = all();
    for message in messages(&definition) {
        let has_file = all.values().any(|wrong| message.contains(&wrong.words));
        assert!(has_file, "no file in tests/golden/refusals breaks the rule {message:?}");
    }
}

/// The errors of the rules and of the parser for a model of this name.
fn judged(name: &str) -> (Vec<String>, Vec<String>) {
    let definition = json!(PredictorModel::crd());
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let text = manifest::DEMO.replace("name: demo", &format!("name: '{name}'"));
    (broken_rules(schema, &text), faults(&text))
}

#[test]
fn a_name_is_a_dns_1035_label_of_at_most_45_characters_and_not_reserved() {
    const LABEL: &str =
        "must be lower-case letters, digits and '-', begin with a letter and not end with '-'";
    const SHORT: &str = "must be at most 45 characters";
    const FREE: &str =
        "is reserved for objects that Canopy creates ('predictors', '…-pods', '…-<8 hexadecimal digits>')";
    let longest = format!("a{}z", "-".repeat(43));
    for name in [
        "a",
        "iris-2",
        &longest,
        "predictor",
        "predictors-2",
        "my-predictors",
        "pods",
        "iris-pods-2",
        "iris-pod",
        "a6f3a9c1e",
        "iris-6f3a9c1",
        "iris-6f3a9c1e0",
        "iris-6f3a9c1g",
    ] {
        assert_eq!(judged(name), (Vec::new(), Vec::new()), "{name}");
    }
    let long = format!("a{}z", "-".repeat(44));
    for (name, why) in [
        ("Iris", LABEL),
        ("1st", LABEL),
        ("-iris", LABEL),
        ("iris-", LABEL),
        ("iris_2", LABEL),
        ("iris.shop", LABEL),
        ("irís", LABEL),
        (&long, SHORT),
        ("predictors", FREE),
        ("iris-pods", FREE),
        ("a-pods", FREE),
        ("iris-6f3a9c1e", FREE),
        ("iris-00000000", FREE),
        ("iris-2-deadbeef", FREE),
    ] {
        let (rules, faults) = judged(name);
        assert_eq!(rules, [format!("metadata.name {why}")], "{name}");
        assert_eq!(faults, [format!("metadata.name: {why}")], "{name}");
    }
}
