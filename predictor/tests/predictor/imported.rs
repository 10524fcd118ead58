//! Models of other libraries: an artifact gives the answers of the file, and a wrong file or example never serves.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use canopy_contract::describe::Metric;
use canopy_contract::rows::Rows;
use canopy_contract::serving::ServingConfig;
use canopy_forest::read::error::Limits;
use canopy_forest::read::model::{ImportedModel, Output};
use canopy_forest::read::reader;
use canopy_predictor::artifact::Artifact;
use canopy_predictor::engine::head::Answer;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::training::import;
use canopy_predictor::training::prepare::{Preparation, PrepareError, prepare};
use canopy_predictor::training::record::Record;
use serde_json::{Value, json};

use crate::harness::config;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models")).join(name)
}

/// A config for a file, with changes.
fn of_file(path: &PathBuf, change: &Value) -> ServingConfig {
    let artifact = json!({"train": null, "artifact": {"source": {"path": path}}, "features": []});
    config(&[&artifact, change])
}

fn prepared(path: &PathBuf, change: &Value) -> Result<Preparation, PrepareError> {
    prepare(&of_file(path, change), Trainer::Native, &|_, _| ())
}

#[track_caller]
fn check_refused(path: &PathBuf, change: &Value, expected: &str) {
    match prepared(path, change) {
        Err(PrepareError::Refused(refused)) => assert_eq!(refused.to_string(), expected),
        other => panic!("{:?}", other.map(|preparation| preparation.report)),
    }
}

/// The rows for which the library has answers; null is NaN.
fn rows(name: &str) -> Vec<Vec<f64>> {
    let stem = name.rsplit_once('.').unwrap().0;
    let text = fs::read_to_string(golden(&format!("{stem}.input.json"))).unwrap();
    let tensors: Value = serde_json::from_str(&text).unwrap();
    let tensor = &tensors["inputs"][0];
    let data = tensor["data"].as_array().unwrap();
    let rows = tensor["shape"][0].as_u64().unwrap() as usize;
    data.chunks(data.len() / rows)
        .map(|row| row.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect())
        .collect()
}

fn models(folder: &str, extensions: &[&str]) -> Vec<String> {
    let entries = fs::read_dir(golden(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_model = |name: &String| {
        extensions.iter().any(|extension| name.ends_with(extension))
            && !name.ends_with(".input.json")
            && !name.ends_with(".expected.json")
    };
    let mut names: Vec<_> = names.filter(is_model).map(|name| format!("{folder}/{name}")).collect();
    names.sort();
    names
}

/// Compares the answers of the artifact with the definition of the file's model, bit by bit.
fn check_answers(name: &str, model: &ImportedModel, bytes: &[u8]) {
    let artifact = import::of_bytes(bytes, None, &of_file(&golden(name), &json!({})));
    let artifact = artifact.unwrap_or_else(|error| panic!("{name}: {error}"));
    let loaded = Artifact::decode(&artifact.encode().unwrap()).unwrap().load();
    let rows = rows(name);
    let outputs = loaded.outputs(&Rows::instances(&rows)).unwrap();
    let answers = loaded.predict(&Rows::instances(&rows)).unwrap();
    for ((row, found), answer) in rows.iter().zip(outputs).zip(answers) {
        let expected = model.outputs(row);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected), "{name}: {row:?}");
        match (&model.output, answer) {
            (Output::Classes(_), Answer::Class(answer)) => {
                let largest = expected.iter().copied().fold(f64::NAN, f64::max);
                assert_eq!(answer.confidence.to_bits(), largest.to_bits(), "{name}: {row:?}");
            }
            (Output::Values(_), Answer::Value { prediction }) => {
                assert_eq!(prediction.to_bits(), expected[0].to_bits(), "{name}: {row:?}");
            }
            (Output::Values(names), Answer::Values { prediction }) => {
                assert_eq!(
                    (bits(&prediction), names.len()),
                    (bits(&expected), expected.len()),
                    "{name}: {row:?}"
                );
            }
            (output, answer) => panic!("{name}: {output:?} {answer:?}"),
        }
    }
}

#[test]
fn an_artifact_gives_the_answers_of_the_file_that_it_was_made_from() {
    let (mut checked, mut several) = (0, 0);
    for name in [("boosted", &[".txt", ".json", ".ubj"][..]), ("library", &[".txt", ".json", ".ubj"])]
        .into_iter()
        .flat_map(|(folder, extensions)| models(folder, extensions))
    {
        let bytes = fs::read(golden(&name)).unwrap();
        let Ok(model) = reader::read(&bytes, &Limits::default()) else { continue };
        check_answers(&name, &model, &bytes);
        checked += 1;
        several += usize::from(matches!(&model.output, Output::Values(values) if values.len() > 1));
    }
    assert!(several > 0, "no model has several outputs");
    assert!(checked > 60, "only {checked} models were checked");
}

const BINARY: &str = "library/lgb_binary.txt";

#[test]
fn a_model_file_is_prepared_and_its_record_has_no_quality() {
    let preparation = prepared(&golden(BINARY), &json!({})).unwrap();
    let artifact = Artifact::decode(&preparation.artifact).unwrap();
    assert_eq!((artifact.card().quality.clone(), artifact.reference()), (None, None));
    assert!(artifact.card().features.iter().all(|feature| feature.missing));
    assert!(preparation.evaluation.is_none());
    let folder = tempfile::tempdir().unwrap();
    let record = preparation.record();
    record.write(folder.path(), Some(&preparation.artifact)).unwrap();
    assert_eq!(Record::read(folder.path()).unwrap(), record);
}

#[test]
fn every_column_may_be_missing_where_the_library_handles_missing_values() {
    for (file, expected) in [
        ("skops/hist_binary.skops", true),
        ("skops/hist_regressor.skops", true),
        ("skops/hist_quantile.skops", true),
        ("skops/v13_hist_binary.skops", true),
        ("skops/lightgbm_regressor.skops", true),
        ("skops/lightgbm_classifier.skops", true),
        ("onnx/skl_histgb_regressor.onnx", true),
        ("onnx/cat_regression_nan_max.onnx", true),
        ("skops/linear.skops", false),
        ("onnx/skl_rf_classifier.onnx", false),
        ("onnx/skl_linear_regression.onnx", false),
    ] {
        let preparation = prepared(&golden(file), &json!({})).unwrap();
        let artifact = Artifact::decode(&preparation.artifact).unwrap();
        let found: Vec<_> = artifact.card().features.iter().map(|feature| feature.missing).collect();
        assert!(found.iter().all(|missing| *missing == expected), "{file}: {found:?}");
    }
}

#[test]
fn an_artifact_of_canopy_is_imported_under_another_name_and_revision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.canopy");
    let trained = prepare(&config(&[]), Trainer::Native, &|_, _| ()).unwrap();
    fs::write(&path, &trained.artifact).unwrap();
    let imported = prepared(&path, &json!({"model": "other", "revision": "abc"})).unwrap();
    let artifact = Artifact::decode(&imported.artifact).unwrap();
    assert_eq!((artifact.card().model.as_str(), artifact.card().revision.as_str()), ("other", "abc"));
    let rows = Rows::instances([[0.1, 0.2, 0.3, 0.4], [-1.0, 0.5, 0.0, 2.0]]);
    let of_trained = Artifact::decode(&trained.artifact).unwrap().load().predict(&rows).unwrap();
    assert_eq!(artifact.load().predict(&rows).unwrap(), of_trained);
}

#[test]
fn declared_formats_features_and_classes_must_be_those_of_the_file() {
    let path = golden("boosted/lightgbm_pandas.txt");
    let names = ["a", "city", "b", "c", "size"];
    check_refused(
        &path,
        &json!({"artifact": {"format": "ONNX"}}),
        "model_invalid: the file has the format LightGBM text, but the format ONNX is declared",
    );
    check_refused(
        &path,
        &json!({"features": [{"name": "a"}]}),
        &format!("model_invalid: 1 features are declared, but the model of the file takes {}", names.len()),
    );
    let mut swapped: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    swapped.swap(0, 1);
    check_refused(
        &path,
        &json!({"features": swapped}),
        &format!(
            "model_invalid: feature 0 is declared as {:?}, but is {:?} in the file: declare the features in the order \
             of the file",
            names[1], names[0]
        ),
    );
    check_refused(
        &path,
        &json!({"classes": ["a", "b", "c"]}),
        "model_invalid: 3 classes are declared, but the model of the file has 2",
    );
    assert!(prepared(&path, &json!({"classes": ["no", "yes"]})).is_ok());
}

#[test]
fn a_file_that_is_no_model_is_refused_by_its_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    for (bytes, expected) in [
        (&b"\x80\x04\x95hello"[..], "model_invalid: pickle file: "),
        (b"tree\nversion=v4\nnum_class=", "model_invalid: LightGBM text file"),
        (b"hello", "model_invalid: "),
        (b"\x89canopy\nxx", "model_invalid: artifact has only 10 bytes"),
    ] {
        fs::write(&path, bytes).unwrap();
        match prepared(&path, &json!({})) {
            Err(PrepareError::Refused(refused)) => {
                assert!(refused.to_string().starts_with(expected), "{refused}");
            }
            other => panic!("{bytes:?}: {:?}", other.map(|preparation| preparation.report)),
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(prepared(&path, &json!({})), Err(PrepareError::Unavailable(_))));
}

#[test]
fn a_model_without_finite_answers_is_refused() {
    let text = fs::read_to_string(golden("library/lgb_poisson.txt")).unwrap();
    let large = |line: &str| match line.strip_prefix("leaf_value=") {
        // The value is the exponential of the sum over the trees.
        Some(values) => format!("leaf_value={}\n", vec!["900"; values.split(' ').count()].join(" ")),
        None if line.starts_with("tree_sizes=") => String::new(),
        None => format!("{line}\n"),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.txt");
    fs::write(&path, text.lines().map(large).collect::<String>()).unwrap();
    check_refused(
        &path,
        &json!({}),
        "model_invalid: the answers to all 64 rows of the self-test are infinite or not a number: check the parameters of \
         the model, or give examples with rows as it is made for",
    );
}

/// A file, a row of it, and the class and value that it gives.
fn answered(name: &str) -> (PathBuf, Vec<Value>, Vec<f64>) {
    let model = reader::read(&fs::read(golden(name)).unwrap(), &Limits::default()).unwrap();
    let row = rows(name).swap_remove(0);
    let values = row.iter().map(|value| if value.is_nan() { Value::Null } else { json!(value) }).collect();
    (golden(name), values, model.outputs(&row))
}

#[test]
fn a_wrong_example_is_refused_by_its_index_with_both_answers() {
    let (path, row, outputs) = answered(BINARY);
    let class = usize::from(outputs[1] > outputs[0]);
    let example = |expected: Value| json!({"examples": [{"features": row, "expected": expected}]});
    prepared(&path, &example(json!({"class": class}))).unwrap();
    let (right, wrong) = (["no", "yes"][class], ["yes", "no"][class]);
    let names = json!({"classes": ["no", "yes"]});
    let with_names = |expected: Value| {
        let mut change = example(expected);
        change["classes"] = names["classes"].clone();
        change
    };
    prepared(&path, &with_names(json!({"label": right}))).unwrap();
    check_refused(
        &path,
        &with_names(json!({"label": wrong})),
        &format!(
            "example_mismatch: examples[0]: expected {:?}, but the model answers {:?} with probability {}",
            wrong, right, outputs[class]
        ),
    );
    check_refused(
        &path,
        &json!({"examples": [{"features": [1], "expected": {"class": 0}}]}),
        &format!(
            "example_mismatch: examples[0].features: must have {} values, one per feature, but has 1",
            row.len()
        ),
    );
}

#[test]
fn an_expected_value_has_a_tolerance() {
    let (path, row, outputs) = answered("library/lgb_regression.txt");
    let example = |value: f64, tolerance: Option<f64>| {
        let mut expected = json!({"value": value});
        if let Some(tolerance) = tolerance {
            expected["tolerance"] = json!(tolerance);
        }
        json!({"examples": [{"features": row, "expected": expected}]})
    };
    prepared(&path, &example(outputs[0], None)).unwrap();
    prepared(&path, &example(outputs[0] + 0.5, Some(0.6))).unwrap();
    for change in [example(outputs[0] + 0.5, None), example(outputs[0] + 0.5, Some(0.4))] {
        let error = prepared(&path, &change).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("example_mismatch: examples[0]: expected "), "{error}");
        assert!(error.ends_with(&format!("but the model answers {}", outputs[0])), "{error}");
    }
}

/// A table of golden rows with a target, and the answers of the model.
fn table(folder: &tempfile::TempDir, name: &str, target: impl Fn(&[f64]) -> String) -> PathBuf {
    let model = reader::read(&fs::read(golden(name)).unwrap(), &Limits::default()).unwrap();
    let header: Vec<_> = (0..model.inputs.len()).map(|index| format!("x{index}")).collect();
    let cell = |value: &f64| if value.is_nan() { String::new() } else { value.to_string() };
    let mut csv = format!("id,truth,{}\n", header.join(","));
    for (index, row) in rows(name).iter().filter(|row| row.iter().all(|v| !v.is_infinite())).enumerate() {
        let cells: Vec<_> = row.iter().map(cell).collect();
        writeln!(csv, "{index},{},{}", target(&model.outputs(row)), cells.join(",")).unwrap();
    }
    let path = folder.path().join("table.csv");
    fs::write(&path, csv).unwrap();
    path
}

fn evaluation(path: &PathBuf, gate: &Value) -> Value {
    let csv = json!({"source": {"path": path}, "target": "truth"});
    json!({"evaluate": {"data": {"csv": csv}, "gate": gate}})
}

#[test]
fn a_classifier_is_evaluated_on_a_table_before_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let most = |outputs: &[f64]| usize::from(outputs[1] > outputs[0]).to_string();
    let right = table(&folder, BINARY, most);
    let gate = json!({"metric": "Accuracy", "min": 1.0});
    let preparation = prepared(&golden(BINARY), &evaluation(&right, &gate)).unwrap();
    let quality = preparation.report.quality.clone().unwrap();
    assert_eq!((quality.metric, quality.value.to_bits()), (Metric::Accuracy, 1_f64.to_bits()));
    assert_eq!(Artifact::decode(&preparation.artifact).unwrap().card().quality, Some(quality));
    assert!(preparation.evaluation.unwrap().to_string().contains("precision"));

    let wrong = table(&folder, BINARY, |outputs| usize::from(outputs[1] <= outputs[0]).to_string());
    let error = prepared(&golden(BINARY), &evaluation(&wrong, &gate)).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("gate_missed: accuracy 0 on ") && error.ends_with("below the minimum 1"),
        "{error}"
    );
    let other = evaluation(&right, &json!({"metric": "R2", "min": 0.5}));
    check_refused(
        &golden(BINARY),
        &other,
        "data_invalid: the gate is on R2, but the model is a classification",
    );
    let unknown = table(&folder, BINARY, |_| "7".to_owned());
    check_refused(
        &golden(BINARY),
        &evaluation(&unknown, &gate),
        "data_invalid: row 1: the target is not one of the 2 classes",
    );
}

#[test]
fn a_regression_is_evaluated_by_its_errors() {
    let name = "library/lgb_regression.txt";
    let folder = tempfile::tempdir().unwrap();
    let off = table(&folder, name, |outputs| (outputs[0] + 2.0).to_string());
    let gate = |max: f64| json!({"metric": "MeanAbsoluteError", "max": max});
    let preparation = prepared(&golden(name), &evaluation(&off, &gate(2.5))).unwrap();
    let quality = preparation.report.quality.unwrap();
    assert!((quality.value - 2.0).abs() < 1e-9 && quality.metric == Metric::MeanAbsoluteError, "{quality:?}");
    let error = prepared(&golden(name), &evaluation(&off, &gate(1.5))).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("gate_missed: mean absolute error 2 on "), "{error}");
    assert!(error.ends_with("above the maximum 1.5"), "{error}");
}
