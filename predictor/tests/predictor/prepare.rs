//! Preparation: a model with its golden answer, a refusal with its reason, or a temporary error.

use std::path::Path;
use std::sync::Mutex;

use canopy_contract::describe::Metric;
use canopy_contract::report::{Warning, WarningKind};
use canopy_contract::rows::Rows;
use canopy_contract::schema;
use canopy_contract::serving::ServingConfig;
use canopy_predictor::artifact::{self, Artifact};
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::files;
use canopy_predictor::training::prepare::{Preparation, PrepareError, prepare};
use serde_json::{Value, json};

use crate::harness::{config, synthetic};

fn prepared(config: &ServingConfig) -> Preparation {
    prepare(config, Trainer::Native, &|_, _| ()).unwrap()
}

/// A config of a CSV file whose rows begin with the label.
fn of_csv(folder: &Path, csv: &str, changes: &Value) -> ServingConfig {
    let path = folder.join("data.csv");
    files::replace(&path, csv.as_bytes()).unwrap();
    let data = json!({"train": {"data": {"csv": {"source": {"path": path}, "target": "label"}}, "gate": null}, "features": []});
    config(&[&data, changes])
}

/// Sixty rows of two features that tell three classes apart.
fn animals(header: &str, classes: [&str; 3]) -> String {
    let row = |row: usize| {
        let (class, step) = (row % 3, row as f64 / 100.0);
        let (weight, age) = (class as f64 * 10.0 + step, 5.0 - step);
        format!("{},{weight},{age}", classes[class])
    };
    let rows: Vec<_> = (0..60).map(row).collect();
    format!("{header}\n{}\n", rows.join("\n"))
}

const HEADER: &str = "label,weight,age";
const ANIMALS: [&str; 3] = ["newt", "cat", "emu"];

#[track_caller]
fn check_refused(config: &ServingConfig, code: &str, message: &str) {
    match prepare(config, Trainer::Native, &|_, _| ()) {
        Err(PrepareError::Refused(refused)) => {
            let refusal = refused.full;
            assert_eq!((refusal.code.as_str(), refusal.message.as_str()), (code, message));
        }
        other => panic!("{message:?} was expected, but there is {other:?}"),
    }
}

#[test]
fn the_same_config_gives_the_same_model_its_proof_and_its_digest() {
    let first = prepared(&synthetic());
    let second = prepared(&synthetic());
    assert_eq!((&first.artifact, &first.golden), (&second.artifact, &second.golden));
    assert_eq!(first.report.digest, artifact::digest(&first.artifact));
    assert_eq!((first.report.bytes, first.report.samples), (first.artifact.len() as u64, 160));
    let quality = first.report.quality.unwrap();
    assert_eq!(first.evaluation.unwrap().quality(Metric::Accuracy), Some(quality.clone()));
    assert_eq!(quality.samples, 40);
    assert!(quality.value > 0.8, "{quality:?}");

    let other = prepared(&config(&[&json!({"train": {"algorithm": {"randomForest": {"seed": 8}}}})]));
    assert_ne!(first.report.digest, other.report.digest);
}

#[test]
fn the_artifact_has_its_card_and_answers_the_golden_row_as_recorded() {
    let config = synthetic();
    let preparation = prepared(&config);
    let artifact = Artifact::decode(&preparation.artifact).unwrap();
    let card = artifact.card();
    assert_eq!(
        (&card.model, &card.version, &card.revision),
        (&config.model, &config.version, &config.revision)
    );
    assert_eq!(card.features, config.features);
    let golden = Rows::single(preparation.golden.features.clone());
    assert_eq!(schema::check(&golden, &card.features), Ok(()));
    assert_eq!(artifact.load().predict(&golden).unwrap(), [preparation.golden.answer]);
}

#[test]
fn the_example_is_the_row_held_out_that_the_model_is_most_sure_of() {
    let features: Vec<_> = (0..4).map(|i| json!({"name": format!("x{i}"), "min": -0.9})).collect();
    for changes in [json!({}), json!({ "features": features })] {
        let preparation = prepared(&config(&[&changes]));
        let artifact = Artifact::decode(&preparation.artifact).unwrap();
        let example = Rows::single(preparation.example);
        assert_eq!(schema::check(&example, &artifact.card().features), Ok(()));
        let confidence = artifact.load().predict(&example).unwrap()[0].confidence();
        assert!(
            confidence > Some(0.9) && confidence > preparation.golden.answer.confidence(),
            "{confidence:?}"
        );
    }
}

#[test]
fn progress_is_reported_after_each_tree() {
    let told = Mutex::new(Vec::new());
    prepare(&synthetic(), Trainer::Native, &|done, of| told.lock().unwrap().push((done, of))).unwrap();
    let mut told = told.into_inner().unwrap();
    told.sort_unstable();
    assert_eq!(told, (1..=20).map(|done| (done, 20)).collect::<Vec<_>>());
}

#[test]
fn linfa_trains_a_model_of_the_same_form() {
    let preparation = prepare(&synthetic(), Trainer::Linfa, &|_, _| ()).unwrap();
    assert!(preparation.report.quality.as_ref().unwrap().value > 0.8, "{:?}", preparation.evaluation);
    assert!(Artifact::decode(&preparation.artifact).is_ok());
}

#[test]
fn a_table_names_its_features_and_classes_where_the_config_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let preparation = prepared(&of_csv(folder.path(), &animals(HEADER, ANIMALS), &json!({})));
    let card = Artifact::decode(&preparation.artifact).unwrap().card().clone();
    let card = serde_json::to_value(card).unwrap();
    assert_eq!(card["features"], json!([{"name": "weight"}, {"name": "age"}]));
    assert_eq!(card["classes"], json!(["cat", "emu", "newt"]));
    assert_eq!(card["quality"], json!({"metric": "Accuracy", "value": 1.0, "samples": 12}));

    let numbered = of_csv(folder.path(), &animals(HEADER, ["0", "1", "2"]), &json!({}));
    let card = Artifact::decode(&prepared(&numbered).artifact).unwrap().card().clone();
    assert_eq!(serde_json::to_value(card.classes).unwrap(), json!([0, 1, 2]));
}

#[test]
fn the_order_of_the_config_decides_over_the_order_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let order = json!({"features": [{"name": "age"}, {"name": "weight"}], "classes": ["emu", "newt", "cat"]});
    let preparation = prepared(&of_csv(folder.path(), &animals(HEADER, ANIMALS), &order));
    assert!(preparation.report.quality.as_ref().unwrap().value >= 1.0, "{:?}", preparation.evaluation);
    let model = Artifact::decode(&preparation.artifact).unwrap().load();
    // By weight: newts near 0, cats near 10, emus near 20.
    for (weight, class) in [(0.2, 1), (10.2, 2), (20.2, 0)] {
        let row = Rows::single(vec![4.8, weight]);
        let answer = &model.predict(&row).unwrap()[0];
        assert_eq!(answer.class(), Some(class), "weight {weight}");
        let probabilities = model.outputs(&row).unwrap();
        assert_eq!(probabilities[0][class as usize].to_bits(), answer.confidence().unwrap().to_bits());
    }
}

#[test]
fn classes_that_are_numbers_are_named_in_their_order_or_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let csv = animals(HEADER, ["0", "1", "2"]);
    for (names, class_of_ten) in [(["a", "b", "c"], 1), (["2", "1", "0"], 1), (["1", "0", "2"], 0)] {
        let preparation = prepared(&of_csv(folder.path(), &csv, &json!({ "classes": names })));
        let model = Artifact::decode(&preparation.artifact).unwrap().load();
        let answer = &model.predict(&Rows::single(vec![10.2, 4.8])).unwrap()[0];
        assert_eq!(answer.class(), Some(class_of_ten), "{names:?}");
    }
}

#[test]
fn classes_are_listed_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    for (texts, listed) in [
        (["01", "02", "10"], ["02", "01", "10"]),
        (["1.0", "2.0", "3.0"], ["1.0", "2.0", "3.0"]),
        (["1.0", "2.0", "3.0"], ["3", "2", "1"]),
        (["0.0", "1.0", "2.0"], ["0.0", "1.0", "2.0"]),
        (["NA", "null", "x"], ["x", "null", "NA"]),
        (
            ["1234567890123456789", "1234567890123456788", "7"],
            ["7", "1234567890123456788", "1234567890123456789"],
        ),
    ] {
        let preparation =
            prepared(&of_csv(folder.path(), &animals(HEADER, texts), &json!({ "classes": listed })));
        let artifact = Artifact::decode(&preparation.artifact).unwrap();
        assert_eq!(json!(artifact.card().classes), json!(listed), "{texts:?}");
        let same = |one: &str, other: &str| one.trim_end_matches(".0") == other.trim_end_matches(".0");
        for (weight, text) in [0.2, 10.2, 20.2].into_iter().zip(texts) {
            let answer = &artifact.load().predict(&Rows::single(vec![weight, 4.8])).unwrap()[0];
            assert!(same(listed[answer.class().unwrap() as usize], text), "{texts:?} {listed:?} {answer:?}");
        }
    }
}

/// 2000 rows: column `sign` decides the class, but for a share of rows in which it is `sentinel`.
fn with_sentinel(sentinel: &str, values: [&str; 2]) -> String {
    let row = |row: usize| {
        let class = row * 7919 % 13 % 2;
        let sign = if row % 25 == 3 { sentinel } else { values[class] };
        format!("c{class},{sign},{}\n", row * 31 % 97)
    };
    format!("label,sign,noise\n{}", (0..2000).map(row).collect::<String>())
}

#[test]
fn a_value_that_stands_for_a_missing_one_takes_nothing_from_a_column() {
    let folder = tempfile::tempdir().unwrap();
    for (sentinel, values) in [
        ("9999999999", ["0", "1"]),
        ("-3.4028235e38", ["0", "1"]),
        ("-1e200", ["-1", "1e155"]),
        ("0", ["1e-46", "2e-46"]),
        ("9999999999", ["1e-50", "2e-50"]),
        ("9999999999", ["1700000000", "1700000001"]),
        ("1e300", ["0", "1"]),
        ("1.7976931348623157e308", ["1700000000", "1700000001"]),
        ("-1.7976931348623157e308", ["0.1", "0.1000001"]),
    ] {
        let csv = with_sentinel(sentinel, values);
        let quality = |standardize: bool, trainer: Trainer| {
            let changes = json!({"train": {"standardize": standardize}});
            let prepared = prepare(&of_csv(folder.path(), &csv, &changes), trainer, &|_, _| ()).unwrap();
            assert_eq!(prepared.report.warnings, [], "{sentinel} {values:?}");
            (prepared.report.quality.unwrap().value, prepared.report.digest)
        };
        let (accuracy, digest) = quality(true, Trainer::Native);
        assert!(accuracy > 0.95, "{sentinel} {values:?}: {accuracy}");
        assert_eq!((accuracy, digest), quality(false, Trainer::Native), "{sentinel} {values:?}");
    }
}

#[test]
fn values_that_no_conversion_keeps_apart_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let row = |row: usize| {
        let base = [1.0, 1e6, 1e12][row % 3];
        format!("c{},{}\n", row % 2, base + [0.0, base * 1e-12][row / 2 % 2])
    };
    let csv = format!("label,a\n{}", (0..120).map(row).collect::<String>());
    let warnings = prepared(&of_csv(folder.path(), &csv, &json!({}))).report.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((warnings[0].kind, warnings[0].name.as_str()), (WarningKind::ValuesMadeEqual, "a"));
}

#[test]
fn a_warning_names_digits_that_a_64_bit_float_cannot_hold_and_the_record_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let ids: [fn(u64) -> u64; 3] = [
        |row| 1_700_000_000_000_000_000 + 3 * row,
        |row| 90_000_000_000_000_000 + row,
        |row| 9_000_000_000_000_000_000 + row,
    ];
    for id in ids {
        let row = |row: u64| format!("c{},{},{}\n", row % 2, id(row), row % 7);
        let csv = format!("label,a,b\n{}", (0..500).map(row).collect::<String>());
        let preparation = prepared(&of_csv(folder.path(), &csv, &json!({})));
        let [warning] = &preparation.report.warnings[..] else { panic!("{:?}", preparation.report.warnings) };
        assert_eq!((warning.kind, &*warning.name, warning.count), (WarningKind::ValuesMadeEqual, "a", 500));
        let example = warning.example.as_ref().unwrap();
        assert!(example.starts_with(&id(0).to_string()[..12]) && example.contains(" and "), "{example}");
        let message = warning.to_string();
        assert!(message.contains(&format!("(for example {example})")), "{message}");
        let record = serde_json::to_string(&preparation.record().report()).unwrap();
        assert!(record.contains("ValuesMadeEqual") && !record.contains(example), "{record}");
    }
}

#[test]
fn signs_of_a_model_that_is_worse_than_its_quality_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let row = |row: usize| {
        let class = if row == 500 { "fraud" } else { ["good", "bad"][row % 2] };
        format!("{class},{row},{}\n", row % 2)
    };
    let csv = format!("label,PassengerId,a\n{}", (0..1000).map(row).collect::<String>());
    let gate = json!({"train": {"gate": {"metric": "Accuracy", "min": 0.9}}});
    let config = of_csv(folder.path(), &csv, &json!({}));
    let mut gated = config.clone();
    gated.train.as_mut().unwrap().gate = serde_json::from_value(gate["train"]["gate"].clone()).unwrap();
    let preparation = prepared(&gated);
    let told: Vec<_> =
        preparation.report.warnings.iter().map(|w| (w.kind, w.name.as_str(), w.count)).collect();
    assert_eq!(
        told,
        [(WarningKind::ClassNotJudged, "fraud", 1), (WarningKind::LooksLikeAnId, "PassengerId", 1000)]
    );
    assert!(
        preparation
            .evaluation
            .as_ref()
            .unwrap()
            .to_string()
            .contains("fraud          -       -     0  not evaluated"),
        "{:?}",
        preparation.evaluation
    );

    let number = |row: usize| format!("{},{}\n", row % 100, row * 7919 % 1013);
    let csv = format!("label,a\n{}", (0..1000).map(number).collect::<String>());
    let warnings = prepared(&of_csv(folder.path(), &csv, &json!({}))).report.warnings;
    assert_eq!(warnings, [Warning::new(WarningKind::LooksLikeAQuantity, "label", 100)]);
    let message = format!(
        "accuracy {} on 200 held-out rows is below the minimum 1: the target has 100 different numbers, so it looks like a quantity and \
         not like a class",
        prepared(&of_csv(folder.path(), &csv, &json!({}))).report.quality.unwrap().value
    );
    let mut gated = of_csv(folder.path(), &csv, &json!({}));
    gated.train.as_mut().unwrap().gate =
        serde_json::from_value(json!({"metric": "Accuracy", "min": 1.0})).unwrap();
    check_refused(&gated, "gate_missed", &message);
    let listed: Vec<String> = (0..100).map(|class| class.to_string()).collect();
    let warnings = prepared(&of_csv(folder.path(), &csv, &json!({ "classes": listed }))).report.warnings;
    assert_eq!(warnings, []);
}

#[test]
fn data_and_config_that_disagree_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let csv = animals(HEADER, ANIMALS);
    let features = |names: &[&str]| json!({"features": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>()});
    let classes = |names: &[&str]| json!({ "classes": names });
    for (changes, message) in [
        (features(&["weight", "size"]), "feature \"size\" is not in the data, which has \"weight\", \"age\""),
        (
            features(&["weight"]),
            "feature \"age\" of the data is not listed: list it, or remove it from the data",
        ),
        (features(&["weight", "weight", "age"]), "feature \"weight\" is listed twice"),
        (
            features(&["weight", "age", "label"]),
            "feature \"label\" is not in the data, which has \"weight\", \"age\"",
        ),
        (
            classes(&["cat", "emu", "gnu"]),
            "class \"gnu\" is not in the data, which has \"cat\", \"emu\", \"newt\"",
        ),
        (
            classes(&["cat", "emu"]),
            "class \"newt\" of the data is not listed: list it, or remove it from the data",
        ),
        (classes(&["cat", "emu", "newt", "cat"]), "class \"cat\" is listed twice"),
    ] {
        check_refused(&of_csv(folder.path(), &csv, &changes), "data_invalid", message);
    }
    let numbered = animals(HEADER, ["0", "1", "2"]);
    for (changes, message) in [
        (classes(&["a", "b"]), "2 classes are named, but the data has 3, numbered from 0"),
        (classes(&["a", "b", "a"]), "class \"a\" is listed twice"),
        (classes(&["0", "1", "x"]), "class \"x\" is not in the data, which has \"0\", \"1\", \"2\""),
    ] {
        check_refused(&of_csv(folder.path(), &numbered, &changes), "data_invalid", message);
    }
    let changes = json!({"features": [{"name": "x0"}, {"name": "x9"}]});
    let message = "feature \"x9\" is not in the data, which has \"x0\", \"x1\"";
    check_refused(
        &config(&[&json!({"train": {"data": {"synthetic": {"features": 2}}}}), &changes]),
        "data_invalid",
        message,
    );
}

#[test]
fn data_that_cannot_be_used_is_refused_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    for (csv, message) in [
        ("label,a\nx,1\ny,NaN\n", "row 2 (line 3) column \"a\" must be a finite number, but is \"NaN\""),
        ("label,a\nx,1\ny,two\n", "row 2 (line 3) column \"a\" must be a number, but is \"two\""),
        ("label,a\nx,1\ny,1,2\n", "row 2 (line 3) has 3 cells, but the header has 2"),
        ("label,a\nx,1\nx,2\n", "all rows have the class \"x\": a classifier needs at least two classes"),
        (
            "label,a\nx,1\n?,2\ny,3\n",
            "row 2 (line 3) target column \"label\" has \"?\", a common marker of a missing value: remove \
             the row, or list this name under classes if it is a class",
        ),
        (
            "label,a\nx,1\ny,2\nz,3\n",
            "3 rows cannot be split into rows to train on and rows to evaluate on: each class has one row \
             and needs at least two; the target may be a quantity or an id",
        ),
        ("label,a\n", "data has no rows: it needs rows of at least two classes"),
        (
            "name,a\nx,1\n",
            "target column \"label\" is not in the header, which has \"name\", \"a\": name one of these",
        ),
    ] {
        check_refused(&of_csv(folder.path(), csv, &json!({})), "data_invalid", message);
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    let changes = json!({"train": {"algorithm": {"randomForest": {"trees": 0}}}});
    let Err(PrepareError::Refused(refused)) = prepare(&config(&[&changes]), Trainer::Native, &|_, _| ())
    else {
        panic!("a forest without trees was grown");
    };
    assert!(refused.told.message.starts_with("trees must be"), "{refused:?}");

    for percent in [0, 100] {
        let config = config(&[&json!({"train": {"testPercent": percent}})]);
        let message =
            format!("200 rows cannot be split with {percent} percent held out: both parts need a row");
        check_refused(&config, "data_invalid", &message);
    }
}

#[test]
fn a_model_below_its_gate_is_refused_with_both_figures() {
    let quality = prepared(&synthetic()).report.quality.unwrap();
    let gate = |min: f64| config(&[&json!({"train": {"gate": {"metric": "Accuracy", "min": min}}})]);
    assert!(
        prepare(&gate(quality.value), Trainer::Native, &|_, _| ()).is_ok(),
        "a gate that is just reached"
    );

    let message = format!("accuracy {} on 40 held-out rows is below the minimum 1", quality.value);
    check_refused(&gate(1.0), "gate_missed", &message);
    // Four digits would say "0.875 is below 0.875…"; the message must not.
    let above = quality.value + 1e-7;
    check_refused(
        &gate(above),
        "gate_missed",
        &format!("accuracy {} on 40 held-out rows is below the minimum {above}", quality.value),
    );
}

#[test]
fn without_a_row_that_callers_may_send_there_is_no_proof() {
    let features: Vec<_> = (0..4).map(|i| json!({"name": format!("x{i}"), "min": 90, "max": 99})).collect();
    let message = "no held-out row is within the bounds of the features: lower min or raise max";
    check_refused(&config(&[&json!({ "features": features })]), "data_invalid", message);

    // One bound that many rows break: the golden row is one that keeps it.
    let features: Vec<_> = (0..4).map(|i| json!({"name": format!("x{i}"), "min": 0.0})).collect();
    let golden = prepared(&config(&[&json!({ "features": features })])).golden;
    assert!(golden.features.iter().all(|&value| value >= 0.0), "{golden:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_may_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = of_csv(folder.path(), "", &json!({}));
    std::fs::remove_file(folder.path().join("data.csv")).unwrap();
    config.version = "2".to_owned();
    match prepare(&config, Trainer::Native, &|_, _| ()) {
        Err(PrepareError::Unavailable(error)) => {
            let expected = format!("failed to read {}/data.csv: No such file", folder.path().display());
            assert!(error.starts_with(&expected), "{error}");
        }
        other => panic!("there is no file, but {other:?}"),
    }
}
