//! The chart without helm: its files agree with each other. What helm makes of it is shown in `e2e/chart_values.rs`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/canopy")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = chart().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn values() -> Value {
    serde_saphyr::from_str(&text("values.yaml")).unwrap_or_else(|error| panic!("values.yaml: {error}"))
}

/// What differs between values and their schema, and objects that would take any key though the values name some.
fn differences(at: &str, values: &Map<String, Value>, schema: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object() else { return vec![] };
    let mut found = Vec::new();
    if schema["additionalProperties"] != json!(false) {
        found.push(format!("{at}: a key that nothing honours is taken"));
    }
    for key in values.keys().filter(|key| !properties.contains_key(*key)) {
        found.push(format!("{at}/{key} is in values.yaml alone"));
    }
    // helm hands `global` to every chart, and an empty map in values.yaml stands for whatever may be chosen.
    let is_free = |key: &str| key == "global" || values.is_empty();
    for (key, schema) in properties {
        match values.get(key) {
            None if is_free(key) => {}
            None => found.push(format!("{at}/{key} is in the schema alone")),
            Some(Value::Object(values)) => found.extend(differences(&format!("{at}/{key}"), values, schema)),
            Some(_) => {}
        }
    }
    found
}

#[test]
fn every_value_is_in_the_schema_and_the_schema_has_no_other() {
    let schema: Value = serde_json::from_str(&text("values.schema.json")).unwrap();
    let found = differences("", values().as_object().unwrap(), &schema);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_difference_between_values_and_schema_is_told() {
    let values = json!({"a": {"b": 1}, "c": 2});
    let schema =
        json!({"properties": {"a": {"properties": {"d": {}}}, "c": {}}, "additionalProperties": false});
    let found = differences("", values.as_object().unwrap(), &schema);
    let expected = [
        "/a: a key that nothing honours is taken",
        "/a/b is in values.yaml alone",
        "/a/d is in the schema alone",
    ];
    assert_eq!(found, expected);
}

#[test]
fn templates_read_values_only_with_the_charts_own_for_those_that_are_missing() {
    assert_eq!(text("files/values.yaml"), text("values.yaml"), "run: charts/render");
    for file in chart().join("templates").read_dir().unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let uses = text(Path::new("templates").join(&name)).matches(".Values").count();
        assert_eq!(uses, usize::from(name == "_parts.tpl"), "{name} must take values from canopy.values");
    }
}

#[test]
fn what_installs_canopy_can_be_deleted_without_the_models() {
    let manifests = text("../../deploy/install.yaml");
    assert!(!manifests.contains("kind: CustomResourceDefinition"), "to delete it deletes every model");
    assert!(manifests.contains("kind: Deployment"));
}

/// The minor version of Kubernetes that a module of `deploy/kind` builds, as in `1.37`.
fn minor(module: &str) -> String {
    let path = format!("../../deploy/kind/{module}/go.mod");
    let text = text(&path);
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let version = version.unwrap_or_else(|| panic!("{path} does not require k8s.io/kubernetes"));
    version.rsplit_once('.').map_or(version, |(minor, _)| minor).to_owned()
}

#[test]
fn chart_and_pages_name_the_versions_of_kubernetes_that_the_tests_run_on() {
    let (oldest, newest) = (minor("oldest"), minor("tools"));
    let chart: Value = serde_saphyr::from_str(&text("Chart.yaml")).unwrap();
    assert_eq!(chart["kubeVersion"], format!(">={oldest}.0-0"));
    for page in ["README.md", "docs/operating.md"] {
        let text = text(Path::new("../..").join(page));
        let claim = format!("Kubernetes {oldest} or newer");
        let paragraph = text.split("\n\n").find(|paragraph| paragraph.contains(&claim));
        let paragraph = paragraph.unwrap_or_else(|| panic!("{page} does not claim {claim:?}"));
        assert!(
            paragraph.contains(&newest),
            "expected {newest} beside {claim:?} in {page}, got\n{paragraph}"
        );
    }
}
