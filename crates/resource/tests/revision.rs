//! Which manifests are one revision, and what the revisions of Canopy are called.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use canopy_resource::manifest;
use canopy_resource::resolve::ResolvedModel;
use serde_json::{Value, json};

const DATA: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: rows}, data: {a.csv: \"a,b\\n1,x\\n\", b.csv: \"a,b\\n2,x\\n\"}, binaryData: {m: AP8=, n: AP4=}}";

/// The plan of a model whose spec is the smallest one with `more` merged into it.
fn plan(more: &Value) -> ResolvedModel {
    let mut spec = json!({
        "version": "1.0",
        "train": {"data": {"synthetic": {}}, "algorithm": {"randomForest": {}}},
    });
    merge(&mut spec, more);
    let annotations = spec.as_object_mut().unwrap().remove("annotations").unwrap_or(json!({}));
    let model = json!({
        "apiVersion": "canopy.rs/v1alpha1",
        "kind": "PredictorModel",
        "metadata": {"name": "iris", "annotations": annotations},
        "spec": spec,
    });
    let mut manifests = manifest::read(DATA).unwrap();
    let model = serde_json::from_value(model).unwrap();
    ResolvedModel::new(&model, &manifests.config_maps, Path::new("/data"))
        .unwrap_or_else(|refusal| panic!("{refusal} in {more}: {:?}", manifests.models.pop()))
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                if value.is_null() {
                    into.remove(name);
                } else {
                    merge(into.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn revision(more: &Value) -> String {
    plan(more).config.revision
}

fn csv(key: &str) -> Value {
    json!({"synthetic": null, "csv": {"source": {"configMap": {"name": "rows", "key": key}}, "target": "b"}})
}

fn remote(uri: &str, sha256: char) -> Value {
    let source = json!({"uri": uri, "sha256": sha256.to_string().repeat(64)});
    json!({"synthetic": null, "csv": {"source": source, "target": "b"}})
}

fn file(key: &str) -> Value {
    json!({"configMap": {"name": "rows", "key": key}})
}

/// A model from a file, with `more` fields.
fn imported(more: &Value) -> Value {
    let mut spec = json!({"train": null, "artifact": {"source": file("m")}});
    merge(&mut spec, more);
    // A merged null must stay one, to remove `train`.
    spec["train"] = Value::Null;
    spec
}

/// Every field of a model from a file that is part of a revision, each with a value that is not the default.
fn every_field_of_a_file() -> [(&'static str, Value); 19] {
    let example = |features: Value, expected: Value| {
        imported(&json!({"examples": [{"features": features, "expected": expected}]}))
    };
    let evaluate = |more: Value| {
        let mut evaluate = json!({"data": {"csv": {"source": file("a.csv"), "target": "b"}}});
        merge(&mut evaluate, &more);
        imported(&json!({"evaluate": evaluate}))
    };
    let remote = |digit: char| {
        let sha256 = digit.to_string().repeat(64);
        let source = json!({"configMap": null, "uri": "https://data.shop/m", "sha256": sha256});
        imported(&json!({"artifact": {"source": source}}))
    };
    let category = json!({"name": "a", "type": "Categorical", "values": ["x", "1"]});
    let row_of = |value: Value| {
        imported(
            &json!({"features": [category], "examples": [{"features": [value], "expected": {"class": 0}}]}),
        )
    };
    [
        ("400614a5", imported(&json!({}))),
        ("3b2e5243", imported(&json!({"artifact": {"source": file("n")}}))),
        ("7831176a", imported(&json!({"artifact": {"source": file("a.csv")}}))),
        ("3e24b3f0", remote('9')),
        ("28868c68", remote('8')),
        ("f3559bce", imported(&json!({"artifact": {"format": "LightGBM"}}))),
        ("de31e085", example(json!([1]), json!({"class": 0}))),
        ("5662e3e3", example(json!(["x"]), json!({"class": 0}))),
        ("28d9e589", example(json!([""]), json!({"class": 0}))),
        ("2f0c21d8", example(json!([1]), json!({"class": 1}))),
        ("b98712b8", example(json!([1]), json!({"label": "1"}))),
        ("52593fc4", example(json!([1]), json!({"value": 1}))),
        ("eb9dcf07", example(json!([1]), json!({"value": 1, "tolerance": "0.5"}))),
        ("ad29da45", evaluate(json!({}))),
        ("a5ec0f25", evaluate(json!({"data": {"csv": {"target": "a"}}}))),
        ("9517aae2", evaluate(json!({"data": {"csv": {"source": file("b.csv")}}}))),
        ("8f40961d", evaluate(json!({"gate": {"metric": "RootMeanSquaredError", "max": "0.5"}}))),
        ("55ce8390", row_of(json!(1))),
        ("739cba0b", row_of(json!("x"))),
    ]
}

/// Every field that is part of a revision, each with a value that is not the default.
fn every_field() -> [(&'static str, Value); 25] {
    let forest = |fields: Value| json!({"train": {"algorithm": {"randomForest": fields}}});
    let synthetic = |fields: Value| json!({"train": {"data": {"synthetic": fields}}});
    let features = |bounds: Value| {
        let mut features: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| json!({"name": name})).collect();
        merge(&mut features[0], &bounds);
        json!({"features": features})
    };
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}});
    let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"a": "b"}}}]);
    [
        ("e7d48a82", json!({})),
        ("37bd1880", json!({"version": "1.1"})),
        ("6886341e", synthetic(json!({"samples": 999}))),
        ("1f62aa5c", synthetic(json!({"features": 5}))),
        ("dd016980", synthetic(json!({"seed": 7}))),
        ("19379272", json!({"train": {"data": csv("a.csv")}})),
        ("7c971cfa", json!({"train": {"data": remote("https://data.shop/a.csv", '9')}})),
        ("d57f0b3d", forest(json!({"trees": 99}))),
        ("24082bc4", forest(json!({"maxDepth": 3}))),
        ("ee1dbfa2", forest(json!({"minSamplesLeaf": 2}))),
        ("b5e120cd", forest(json!({"maxFeatures": "Log2"}))),
        ("0ef86776", forest(json!({"bootstrap": false}))),
        ("31a1b664", forest(json!({"seed": 7}))),
        ("f71caa7e", json!({"train": {"standardize": false}})),
        ("b88f78d3", json!({"train": {"testPercent": 30}})),
        ("b6dd14bd", json!({"train": {"gate": {"metric": "Accuracy", "min": "0.5"}}})),
        ("e94ea6f0", json!({"train": {"resources": {"requests": {"cpu": "1"}}}})),
        ("f4582d73", features(json!({"min": -1, "max": "2.5"}))),
        ("90637e07", json!({"classes": ["no", "yes"]})),
        ("662fb34b", json!({"resources": {"limits": {"memory": "64Mi"}}})),
        ("6c0cec5e", json!({"scheduling": {"nodeSelector": {"disk": "ssd"}}})),
        (
            "a8a06d4e",
            json!({"scheduling": {"tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}]}}),
        ),
        ("ba3270a4", json!({"scheduling": {"affinity": affinity}})),
        (
            "5ead66e1",
            json!({"scheduling": {"priorityClassName": "high", "topologySpreadConstraints": spread}}),
        ),
        ("e558f79b", json!({"annotations": {"canopy.rs/restartedAt": "2026-01-01"}})),
    ]
}

/// These are in the names of objects in people's clusters: if this test fails, models are retrained.
#[test]
fn revisions_do_not_change_between_versions_of_canopy() {
    let expected = every_field().map(|(name, more)| format!("{name} {more}"));
    let found = every_field().map(|(_, more)| format!("{} {more}", revision(&more)));
    assert_eq!(found, expected, "{found:#?}");
    let mut names = every_field().map(|(_, more)| revision(&more)).to_vec();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), every_field().len(), "each field makes another revision");
}

/// If this test fails, models from files are prepared again.
#[test]
fn revisions_of_model_files_do_not_change_between_versions_of_canopy() {
    let expected = every_field_of_a_file().map(|(name, more)| format!("{name} {more}"));
    let found = every_field_of_a_file().map(|(_, more)| format!("{} {more}", revision(&more)));
    assert_eq!(found, expected, "{found:#?}");
    let names: BTreeSet<_> = every_field_of_a_file().map(|(_, more)| revision(&more)).into();
    assert_eq!(names.len(), every_field_of_a_file().len(), "each field makes another revision");
}

#[test]
fn two_spellings_of_a_spec_have_the_same_revision() {
    let same = |one: Value, other: Value| {
        assert_eq!(revision(&one), revision(&other), "{one} and {other}");
        assert_ne!(
            plan(&one).legacy,
            plan(&other).legacy,
            "Canopy 0.1 knew no difference: {one} and {other}"
        );
    };
    same(json!({}), json!({"train": {"standardize": true, "testPercent": 20}}));
    same(json!({}), json!({"train": {"data": {"synthetic": {"samples": 1000, "features": 4, "seed": 42}}}}));
    let defaults =
        json!({"trees": 100, "minSamplesLeaf": 1, "maxFeatures": "Sqrt", "bootstrap": true, "seed": 42});
    same(json!({}), json!({"train": {"algorithm": {"randomForest": defaults}}}));
    same(json!({}), json!({"train": {"deadlineSeconds": 30}}));
    let gate = |min: Value| json!({"train": {"gate": {"metric": "Accuracy", "min": min}}});
    same(gate(json!("0.5")), gate(json!("0.50")));
    same(gate(json!(1)), gate(json!("1.0")));
    let cpu = |amount: Value| json!({"resources": {"requests": {"cpu": amount}}});
    same(cpu(json!("1")), cpu(json!("1000m")));
    same(cpu(json!("20m")), cpu(json!("0.02")));
    same(cpu(json!("1")), json!({"resources": {"requests": {"cpu": "1"}, "limits": {}}}));
    same(json!({}), json!({"scheduling": {"affinity": {}, "tolerations": []}}));
    let remote = |seconds: u32| json!({"train": {"data": remote("https://data.shop/a.csv", '9'), "deadlineSeconds": seconds}});
    same(remote(30), remote(60));
    assert_eq!(revision(&cpu(json!(1))), revision(&cpu(json!("1"))));
}

#[test]
fn close_but_different_specs_have_different_revisions() {
    let differ = |one: Value, other: Value| assert_ne!(revision(&one), revision(&other), "{one} and {other}");
    differ(json!({}), json!({"resources": {}}));
    differ(json!({"resources": {}}), json!({"train": {"resources": {}}}));
    differ(json!({"train": {"data": csv("a.csv")}}), json!({"train": {"data": csv("b.csv")}}));
    differ(
        json!({"train": {"data": remote("https://data.shop/a.csv", '9')}}),
        json!({"train": {"data": remote("https://data.shop/a.csv", '8')}}),
    );
    let classes = |first: &str, second: &str| json!({"classes": [first, second]});
    differ(classes("a", "b"), classes("b", "a"));
}

#[test]
fn replicas_and_retire_seconds_do_not_change_the_revision() {
    assert_eq!(revision(&json!({})), revision(&json!({"replicas": 3, "retireSeconds": 0, "paused": true})));
}
