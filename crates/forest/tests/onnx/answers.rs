//! The answers of scikit-learn and `CatBoost`.

use canopy_forest::read::error::Limits;
use canopy_forest::read::model::{ImportedModel, Input, InputKind, Output};
use canopy_forest::read::onnx;

use crate::golden::{Tensor, expected, file, names, rows};

/// The largest difference between scores, relative to values above 1.
const TOLERANCE: f64 = 1e-5;

fn model(name: &str) -> ImportedModel {
    onnx::read(&file(name), &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_model_gives_the_answers_of_the_library_that_trained_it() {
    let names: Vec<_> = names().into_iter().filter(|name| !name.contains("mlp")).collect();
    assert_eq!(names.len(), 22);
    for name in names {
        let model = model(&name);
        let rows = rows(&name, &model);
        assert_eq!(rows.len(), 60, "{name}");
        for tensor in expected(&name) {
            for (index, row) in rows.iter().enumerate() {
                check(&model, row, &tensor, index, &name);
            }
        }
    }
}

fn check(model: &ImportedModel, row: &[f64], tensor: &Tensor, index: usize, name: &str) {
    let place = format!("{name}, {}, row {index}", tensor.name);
    let outputs = model.outputs(row);
    let width = tensor.data.len() / tensor.shape[0];
    let expected = &tensor.data[index * width..][..width];
    if tensor.name.ends_with("label") {
        let Output::Classes(labels) = &model.output else { panic!("{place}: no classes") };
        let best = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let label = &labels[outputs.iter().position(|output| *output >= best).unwrap()];
        let expected = expected[0].as_str().map_or(expected[0].to_string(), str::to_owned);
        assert_eq!(*label, expected, "{place}");
        return;
    }
    // CatBoost's raw score of a binary model is that of the second class.
    let found = match (&tensor.name[..], width) {
        ("raw", 1) => vec![*model.scores(row).last().unwrap()],
        ("raw", _) => model.scores(row),
        _ => outputs,
    };
    let expected: Vec<_> = expected.iter().map(|value| value.as_f64().unwrap()).collect();
    assert_eq!(found.len(), expected.len(), "{place}");
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(difference <= TOLERANCE * expected.abs().max(1.0), "{place}: {found} must be {expected}");
    }
}

#[test]
fn inputs_have_names_and_the_categories_of_texts() {
    let input = |name: &str, kind| Input { name: Some(name.to_owned()), kind };
    let categories = ["ams", "ber", "cph", "ä é"].map(str::to_owned).to_vec();
    assert_eq!(
        model("skl_columns_onehot_logreg").inputs,
        [
            input("a", InputKind::Numeric),
            input("b", InputKind::Numeric),
            input("city", InputKind::Categorical { categories }),
        ]
    );
    assert_eq!(
        model("cat_binary").inputs,
        vec![Input { name: None, kind: InputKind::Numeric }; 6],
        "one matrix has no names of columns"
    );
}

#[test]
fn forests_need_no_step_in_front_of_the_trees() {
    for name in ["skl_rf_classifier", "skl_histgb_regressor", "cat_multiclass"] {
        assert_eq!(model(name).steps, [], "{name}");
    }
}

#[test]
fn labels_are_those_of_the_model() {
    let labels = |name| match model(name).output {
        Output::Classes(labels) => labels,
        Output::Values(names) => names,
    };
    assert_eq!(labels("skl_scaler_logreg_zipmap_strings"), ["high", "low", "mid"]);
    assert_eq!(labels("skl_gb_binary"), ["0", "1"]);
    assert_eq!(labels("cat_regression"), ["predictions"]);
}

#[test]
fn a_neural_network_is_refused_by_its_first_operator() {
    let error = onnx::read(&file("skl_mlp_regressor"), &Limits::default()).unwrap_err().to_string();
    assert!(error.starts_with("ONNX file, node \"MatMul\" (MatMul): operator \"MatMul\" of"), "{error}");
}
