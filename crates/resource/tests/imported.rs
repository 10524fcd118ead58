//! Models from files: their serving config, their files, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::path::Path;

use canopy_resource::manifest;
use canopy_resource::resolve::{InvalidModel, ResolvedModel};
use serde_json::json;

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn plan(text: &str) -> Result<ResolvedModel, InvalidModel> {
    let manifests = manifest::read(text).unwrap();
    ResolvedModel::new(&manifests.models[0], &manifests.config_maps, Path::new("/data"))
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    assert_eq!(plan(text).unwrap_err().to_string(), expected);
}

const IMPORT: &str = "
apiVersion: canopy.rs/v1alpha1
kind: PredictorModel
metadata: {name: price}
spec:
  version: '2'
  artifact: {source: {configMap: {name: files, key: price.onnx}}, format: ONNX}
  features: [{name: size, min: 0}, {name: colour, type: Categorical, values: [red, '1']}, {name: age}]
  examples: [{features: ['1.5', 1, ''], expected: {value: '3.25', tolerance: '1e-3'}}]
  evaluate:
    data: {csv: {source: {configMap: {name: files, key: rows.csv}}, target: price}}
    gate: {metric: MeanAbsoluteError, max: '0.5'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: files}
binaryData: {price.onnx: AP8=}
data: {rows.csv: 'size,colour,age,price'}
";

#[test]
fn a_model_file_has_its_examples_and_evaluation_in_the_config() {
    let plan = plan(IMPORT).unwrap();
    assert_eq!(
        json!(plan.config),
        json!({
            "model": "price",
            "namespace": "default",
            "version": "2",
            "revision": plan.config.revision,
            "artifact": {"source": {"path": "/data/model"}, "format": "ONNX"},
            "examples": [{"features": [1.5, "1", null], "expected": {"value": 3.25, "tolerance": 0.001}}],
            "evaluate": {
                "data": {"csv": {"source": {"path": "/data/evaluate.csv"}, "target": "price"}},
                "gate": {"metric": "MeanAbsoluteError", "max": 0.5},
            },
            "features": [
                {"name": "size", "min": 0.0},
                {"name": "colour", "categories": ["red", "1"]},
                {"name": "age"},
            ],
            "classes": [],
        })
    );
    let files = plan.files.iter().map(|file| (file.path.as_path(), file.bytes.as_slice()));
    let table = b"size,colour,age,price".as_slice();
    assert_eq!(
        files.collect::<Vec<_>>(),
        [(Path::new("/data/model"), b"\0\xff".as_slice()), (Path::new("/data/evaluate.csv"), table)]
    );
    assert!(plan.config.local_files().eq(plan.files.iter().map(|file| &file.path)));
}

#[test]
fn the_sample_is_the_model_file_that_the_tests_of_readers_use() {
    let plan = plan(include_str!("../../../deploy/samples/levels.yaml")).unwrap();
    let [file] = &plan.files[..] else { panic!("{:?}", plan.files) };
    let golden =
        include_bytes!("../../../tests/golden/models/onnx/skl_scaler_logreg_zipmap_strings.onnx").as_slice();
    assert_eq!((file.path.as_path(), file.bytes.as_slice()), (Path::new("/data/model"), golden));
    assert_eq!(plan.config.examples.len(), 3);
}

#[test]
fn text_of_an_example_is_a_number_unless_the_feature_is_categorical() {
    let text = IMPORT.replace("{name: colour, type: Categorical, values: [red, '1']}", "{name: colour}");
    let values = |text: &str| json!(plan(text).unwrap().config.examples[0].features);
    assert_eq!(values(&text), json!([1.5, 1.0, null]));
    assert_eq!(values(&text.replace("'1.5', 1,", "'inf', 'red',")), json!(["inf", "red", null]));
}

#[test]
fn two_downloads_share_the_deadline() {
    let uri = |name: &str| format!("{{uri: 'https://data.shop/{name}', sha256: {SHA256}}}");
    let one = IMPORT.replace("{configMap: {name: files, key: price.onnx}}", &uri("price.onnx"));
    let seconds = |text: &str| {
        json!(plan(text).unwrap().config)["artifact"]["source"]["download"]["timeoutSeconds"].clone()
    };
    assert_eq!(seconds(&one), 300);
    let both = one.replace("{configMap: {name: files, key: rows.csv}}", &uri("rows.csv"));
    assert_eq!(seconds(&both), 200);
    assert_eq!(plan(&both).unwrap().files, []);
}

#[test]
fn files_that_do_not_fit_into_one_config_map_are_refused() {
    let large = |bytes: usize| {
        let table = format!("rows.csv: {}", "x".repeat(bytes));
        IMPORT.replace("rows.csv: 'size,colour,age,price'", &table)
    };
    assert!(plan(&large((1 << 20) - 2)).is_ok());
    let table = "x".repeat(1 << 20);
    let more =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: more}}\ndata: {{rows.csv: {table}}}\n");
    let text = format!("{IMPORT}---\n{more}");
    check_refused(
        &text.replace("{name: files, key: rows.csv}", "{name: more, key: rows.csv}"),
        "spec.evaluate.data.csv.source: the files of the model have 1048578 bytes together, but must have at most \
         1048576, because they are copied into one ConfigMap: put one on a web server and name it by uri",
    );
}

#[test]
fn a_missing_model_file_is_named_in_the_error() {
    check_refused(
        &IMPORT.replace("key: price.onnx", "key: prize.onnx"),
        "spec.artifact.source.configMap.key: ConfigMap files has no key prize.onnx; it has rows.csv, price.onnx",
    );
    check_refused(
        &IMPORT.replace("key: rows.csv", "key: price.onnx"),
        "spec.evaluate.data.csv.source.configMap.key: price.onnx of ConfigMap files is binary, or text that is not \
         UTF-8, but must be CSV as text under data: save it as UTF-8",
    );
}
