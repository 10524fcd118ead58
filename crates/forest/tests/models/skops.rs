//! Files of skops.

use canopy_forest::read::model::{ImportedModel, Input, InputKind, Output};
use serde_json::Value;

use crate::golden::{file, model, names};

/// The rows of a tensor.
pub(crate) fn rows(name: &str, kind: &str, tensor: &str) -> Option<Vec<Vec<Value>>> {
    let stem = name.rsplit_once('.').unwrap().0;
    let tensors: Value = serde_json::from_slice(&file(&format!("{stem}.{kind}.json"))).unwrap();
    let tensors = tensors.as_object().unwrap().values().next().unwrap().as_array().unwrap();
    let found = tensors.iter().find(|found| found["name"] == tensor)?;
    let data = found["data"].as_array().unwrap();
    let count = usize::try_from(found["shape"][0].as_u64().unwrap()).unwrap();
    Some(data.chunks(data.len() / count).map(<[Value]>::to_vec).collect())
}

/// The row as numbers: NaN for a missing value, and the index of a category.
pub(crate) fn row(model: &ImportedModel, cells: &[Value]) -> Vec<f64> {
    let number = |(cell, input): (&Value, &Input)| match (cell, &input.kind) {
        (Value::Null, _) => f64::NAN,
        (Value::String(text), InputKind::Categorical { categories }) => {
            categories.iter().position(|category| category == text).unwrap() as f64
        }
        // An input that the model does not use has no categories.
        (Value::String(_), InputKind::Numeric) => 0.0,
        (cell, _) => cell.as_f64().unwrap(),
    };
    cells.iter().zip(&model.inputs).map(number).collect()
}

fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

pub(crate) fn assert_close(found: &[f64], expected: &[Value], place: &str) {
    assert_eq!(found.len(), expected.len(), "{place}");
    for (found, expected) in found.iter().zip(expected) {
        let expected = expected.as_f64().unwrap();
        let is_close = (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
        assert!(is_close, "{place}: {found} must be {expected}");
    }
}

#[test]
fn every_model_gives_the_answers_of_scikit_learn() {
    let names: Vec<_> =
        names("skops", "", ".skops").into_iter().filter(|name| !name.contains("REFUSE")).collect();
    assert_eq!(names.len(), 71);
    for name in names {
        let model = model(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let inputs = rows(&name, "input", "X").unwrap();
        let predictions = rows(&name, "expected", "prediction").unwrap();
        let probabilities = rows(&name, "expected", "probabilities");
        assert_eq!((inputs.len(), inputs[0].len()), (200, model.inputs.len()), "{name}");
        for (index, (cells, expected)) in inputs.iter().zip(&predictions).enumerate() {
            let place = format!("{name}, row {index}");
            let found = model.outputs(&row(&model, cells));
            let Output::Classes(labels) = &model.output else {
                assert_close(&found, expected, &place);
                continue;
            };
            assert_close(&found, &probabilities.as_ref().unwrap()[index], &place);
            let mut best = 0;
            for class in 0..found.len() {
                best = if found[class] > found[best] { class } else { best };
            }
            // Rounding decides between classes with equal probabilities.
            let other = labels.iter().position(|found| *found == label(&expected[0])).unwrap();
            assert!(best == other || found[best] - found[other] < 1e-12, "{place}: {}", labels[best]);
        }
    }
}

#[test]
fn inputs_have_the_names_and_categories_of_the_training_table() {
    let model = model("skops/columns_nested.skops").unwrap();
    let named = |name: &str| Some(name.to_owned());
    let found: Vec<_> = model.inputs.iter().map(|input| input.name.clone()).collect();
    assert_eq!(found, ["age", "city", "income", "visits", "size", "paid"].map(named));
    let cities = ["New York", "Bern", "Oslo", "Łódź"].map(str::to_owned).to_vec();
    assert_eq!(model.inputs[1].kind, InputKind::Categorical { categories: cities });
    assert_eq!(model.inputs[4].kind, InputKind::Numeric);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let export = "convert the model to ONNX with skl2onnx, as docs/onnx.md shows";
    for (name, expected) in [
        ("svc", format!("SVC: sklearn.svm._classes.SVC is not supported: {export}")),
        ("neighbors", format!("KNeighborsClassifier: sklearn.neighbors._classification.KNeighborsClassifier is not supported: {export}")),
        ("mlp", format!("MLPClassifier: sklearn.neural_network._multilayer_perceptron.MLPClassifier is not supported: {export}")),
        ("polynomial", format!("PolynomialFeatures: sklearn.preprocessing._polynomial.PolynomialFeatures is not supported: {export}")),
        ("function", format!("FunctionTransformer: a function of your own is not supported: {export}")),
        ("indicator", format!("SimpleImputer: SimpleImputer with add_indicator is not supported: {export}")),
        ("infrequent", format!("OneHotEncoder: an encoder with min_frequency or max_categories is not supported: {export}")),
        ("voting", format!("VotingClassifier: sklearn.ensemble._voting.VotingClassifier is not supported: {export}")),
        ("init", format!("GradientBoostingClassifier: init with a \"LogisticRegression\" is not supported: {export}")),
        ("scaler", format!("StandardScaler: sklearn.preprocessing._data.StandardScaler is not supported: {export}")),
        ("perceptron", format!("Perceptron: sklearn.linear_model._perceptron.Perceptron is not supported: {export}")),
        ("linear_svc", format!("LinearSVC: sklearn.svm._classes.LinearSVC is not supported: {export}")),
        ("several_targets", "RandomForestClassifier: a classifier of several targets is not supported: train one model for each target".to_owned()),
        ("part_normalizer", "ColumnTransformer: a Normalizer of some columns only is not supported: normalise all columns, or none".to_owned()),
    ] {
        let found = model(&format!("skops/REFUSE_{name}.skops")).unwrap_err().to_string();
        assert_eq!(found, format!("skops file, {expected}"));
    }
    assert_eq!(names("skops", "REFUSE", ".skops").len(), 14);
}
