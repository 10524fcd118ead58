//! Folders of `MLflow`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use canopy_forest::read::error::{Limits, ReadError};
use canopy_forest::read::mlflow::{self, Manifest};
use canopy_forest::read::model::{ImportedModel, InputKind};

use crate::golden::path;
use crate::skops::{assert_close, row, rows};

const FOLDERS: [&str; 8] = [
    "lightgbm",
    "lightgbm_classifier",
    "onnx",
    "sklearn",
    "sklearn_texts",
    "xgboost",
    "xgboost_classifier",
    "xgboost_json",
];

fn files(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path("mlflow").join(name)).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<ImportedModel, ReadError> {
    mlflow::read(files, &Limits::default())
}

fn error(files: &BTreeMap<String, Vec<u8>>) -> String {
    read(files).unwrap_err().to_string()
}

/// The folder after a change of `MLmodel`.
fn changed(name: &str, from: &str, to: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(name);
    let text = String::from_utf8(files["MLmodel"].clone()).unwrap();
    assert!(text.contains(from), "{text}");
    files.insert("MLmodel".to_owned(), text.replace(from, to).into_bytes());
    files
}

#[test]
fn every_folder_gives_the_answers_of_the_library() {
    for name in FOLDERS {
        let model = read(&files(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let path = format!("mlflow/{name}.model");
        let inputs = rows(&path, "input", "X").unwrap();
        let expected = rows(&path, "expected", "probabilities").unwrap();
        assert_eq!((inputs.len(), expected.len()), (100, 100), "{name}");
        for (index, (cells, expected)) in inputs.iter().zip(&expected).enumerate() {
            assert_close(&model.outputs(&row(&model, cells)), expected, &format!("{name}, row {index}"));
        }
    }
}

#[test]
fn inputs_have_the_names_of_the_signature() {
    for name in ["lightgbm", "lightgbm_classifier", "sklearn", "xgboost"] {
        let model = read(&files(name)).unwrap();
        let names: Vec<_> = model.inputs.iter().map(|input| input.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["age", "income", "visits per day"], "{name}");
    }
    let model = read(&files("sklearn_texts")).unwrap();
    assert_eq!(model.inputs[3].name.as_deref(), Some("city"));
    let cities = vec!["Bern".to_owned(), "Oslo".to_owned()];
    assert_eq!(model.inputs[3].kind, InputKind::Categorical { categories: cities });
}

#[test]
fn a_signature_that_does_not_fit_the_model_is_refused() {
    let text = r#""name": "city""#;
    for (files, expected) in [
        (
            changed(
                "sklearn_texts",
                r#"{"type": "string", "name": "city", "required": true}"#,
                r#"{"type": "double", "name": "city"}"#,
            ),
            "column \"city\" is a number in the signature, but the model takes text",
        ),
        (
            changed(
                "sklearn_texts",
                r#"{"type": "double", "name": "age""#,
                r#"{"type": "string", "name": "age""#,
            ),
            "column \"age\" is text in the signature, but the model takes a number",
        ),
        (
            changed("sklearn_texts", text, r#""name": "town""#),
            "the model's input \"city\" is not in the signature",
        ),
        (
            changed("sklearn_texts", text, r#""name": "age""#),
            "two columns of the signature have the same name",
        ),
        (changed("onnx", "[-1, 3]", "[-1, 4]"), "the signature has 4 columns, but the model takes 3"),
    ] {
        let suffix = "; the file is damaged or was not written by this library";
        assert_eq!(error(&files), format!("MLflow file, signature: {expected}{suffix}"));
    }
    let dates = changed("sklearn_texts", r#"{"type": "string""#, r#"{"type": "datetime""#);
    assert_eq!(
        error(&dates),
        "MLflow file, MLmodel: column \"city\" of type \"datetime\" is not supported: \
         use boolean, integer, long, float, double or string"
    );
}

#[test]
fn a_folder_without_a_flavor_that_is_read_is_refused_with_the_command_that_saves_one() {
    let save = "save it with mlflow.sklearn.save_model(model, \"folder\", serialization_format=\"skops\")";
    assert_eq!(
        error(&files("sklearn_REFUSE_pickle")),
        format!("MLflow file, MLmodel: the flavor sklearn with a pickle is not supported: {save}")
    );
    let hidden = changed("sklearn_REFUSE_pickle", "format: cloudpickle", "format: skops");
    assert_eq!(
        error(&hidden),
        format!(
            "MLflow file, \"model.pkl\": a file of the format pickle in this flavor is not supported: {save}"
        )
    );
    let torch = "export the model with torch.onnx.export(model, example, \"model.onnx\"), and use that file";
    assert_eq!(
        error(&changed("xgboost", "  xgboost:", "  pytorch:")),
        format!("MLflow file, MLmodel: the flavor \"pytorch\" is not supported: {torch}")
    );
}

#[test]
fn a_manifest_that_leaves_the_folder_or_expands_without_bound_is_refused() {
    for file in ["../model.ubj", "/etc/passwd", "a/../../b", "C:\\\\model", ""] {
        let found = error(&changed("xgboost", "data: model.ubj", &format!("data: \"{file}\"")));
        assert!(found.contains("which leaves the folder"), "{found}");
    }
    let found = error(&changed("xgboost", "data: model.ubj", "data: other.ubj"));
    assert!(found.starts_with("MLflow file: the folder has no file \"other.ubj\""), "{found}");
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", vec![alias; 10].join(", ")).unwrap();
    }
    let deep = format!("flavors: {}", "[".repeat(100_000));
    let long = format!("flavors: {{}} #{}", " ".repeat(mlflow::MANIFEST_MAX));
    for text in [
        bomb + "flavors:\n  xgboost:\n    data: *a11\n",
        deep,
        long,
        "\0".to_owned(),
        "flavors: [".to_owned(),
    ] {
        let found = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(found.starts_with("MLflow file, MLmodel: ") && found.len() < 300, "{found}");
    }
}
