//! Model files of other libraries over HTTP: `canopy serve` gives the answers of the library that made the file.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use Answers::{Labels, Probabilities, Values};

use crate::program::{Serving, golden};

/// The tolerance of probabilities, and of values relative to values above 1.
const TOLERANCE: f64 = 1e-5;

/// What the library answers, by the index of the output in the file of answers.
#[derive(Clone, Copy)]
enum Answers {
    /// The probabilities of the classes.
    Probabilities(usize),
    /// The labels of the most probable classes, and the probabilities.
    Labels(usize, usize),
    /// Values.
    Values(usize),
}

/// At least one classifier and one regression of each folder that has both.
const FILES: [(&str, Answers); 17] = [
    ("library/lgb_multiclass.txt", Probabilities(0)),
    ("library/xgb_v17_binary.json", Probabilities(0)),
    ("library/lgb_regression.txt", Values(0)),
    ("library/xgb_regression.ubj", Values(0)),
    ("boosted/lightgbm_rf_multiclass.txt", Probabilities(0)),
    ("boosted/lightgbm_huber.txt", Values(0)),
    ("boosted/xgboost_gamma.ubj", Values(0)),
    ("skops/rf_classifier.skops", Labels(0, 1)),
    ("skops/logistic_labels.skops", Labels(0, 1)),
    ("skops/gb_regressor.skops", Values(0)),
    ("onnx/skl_rf_classifier_strings.onnx", Labels(0, 1)),
    ("onnx/skl_scaler_logreg_zipmap_strings.onnx", Labels(0, 1)),
    ("onnx/skl_gb_regressor.onnx", Values(0)),
    ("mlflow/lightgbm_classifier", Probabilities(0)),
    ("mlflow/onnx", Probabilities(0)),
    ("neural/skl_mlp_classifier.onnx", Labels(0, 1)),
    ("neural/skl_mlp_regressor.onnx", Values(0)),
];

#[tokio::test]
async fn model_files_are_served_with_the_answers_of_their_library() -> Result<()> {
    let files: Vec<_> = FILES.iter().map(|(file, _)| golden(file)).collect();
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let serving = Serving::start(files.len(), &files).await?;
    let models = serving.models();
    assert_eq!(models.len(), FILES.len());
    for ((file, answers), (_, address)) in FILES.into_iter().zip(models) {
        check(&serving, &address, file, answers).await.with_context(|| file.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_network_with_declared_classes_is_served_with_the_probabilities_of_its_library() -> Result<()> {
    let file = "neural/torch_mlp_softmax_legacy.onnx";
    let serving = Serving::start(1, &[&golden(file), "--classes", "a,b,c,d"]).await?;
    let (_, address) = serving.models().swap_remove(0);
    check(&serving, &address, file, Probabilities(0)).await
}

/// Sends all rows that the model takes in one request, and compares the answers.
async fn check(serving: &Serving, address: &str, file: &str, answers: Answers) -> Result<()> {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let inputs = Tensor::read(&format!("{stem}.input.json"), "inputs", 0)?;
    let model = serving.get(&format!("{address}/model")).await?;
    let is_taken =
        |(index, value): (usize, &Value)| !value.is_null() || model["features"][index]["missing"] == true;
    let chosen: Vec<_> =
        (0..inputs.rows).filter(|row| inputs.row(*row).iter().enumerate().all(is_taken)).collect();
    ensure!(chosen.len() >= 60, "only {} rows are taken", chosen.len());
    let instances: Vec<_> = chosen.iter().map(|row| inputs.row(*row)).collect();
    let body = serving.post(&format!("{address}/predict"), &json!({"instances": instances})).await?;
    let found = body["predictions"].as_array().with_context(|| body.to_string())?;
    ensure!(found.len() == chosen.len(), "{} rows have {} answers", chosen.len(), found.len());

    let output = |index: usize| Tensor::read(&format!("{stem}.expected.json"), "outputs", index);
    let (labels, numbers) = match answers {
        Labels(labels, probabilities) => (Some(output(labels)?), output(probabilities)?),
        Probabilities(index) | Values(index) => (None, output(index)?),
    };
    for (row, found) in chosen.into_iter().zip(found) {
        let mut expected: Vec<_> = numbers.row(row).iter().filter_map(Value::as_f64).collect();
        let same = if let Values(_) = answers {
            let value = found["prediction"].as_f64().context("a value")?;
            (value - expected[0]).abs() <= TOLERANCE * expected[0].abs().max(1.0)
        } else {
            if let [second] = expected[..] {
                expected.insert(0, 1.0 - second);
            }
            let class = usize::try_from(found["prediction"].as_u64().context("a class")?)?;
            let confidence = found["confidence"].as_f64().context("a confidence")?;
            let largest = expected.iter().copied().fold(0.0, f64::max);
            let is_label =
                labels.as_ref().is_none_or(|labels| labels.row(row)[0] == label(&model["classes"][class]));
            let is_largest = expected[class] >= largest - TOLERANCE;
            is_label && is_largest && (confidence - expected[class]).abs() <= TOLERANCE
        };
        ensure!(same, "row {row}: got {found}, expected {expected:?}");
    }
    Ok(())
}

/// A class as the libraries write it: a label that is a whole number is a number.
fn label(class: &Value) -> Value {
    let number = class.as_str().and_then(|name| name.parse::<i64>().ok());
    number.map_or_else(|| class.clone(), Value::from)
}

/// An input or an output of a model: flat data, row after row.
struct Tensor {
    rows: usize,
    data: Vec<Value>,
}

impl Tensor {
    fn read(file: &str, member: &str, index: usize) -> Result<Self> {
        let mut tensors: Value = serde_json::from_str(&fs::read_to_string(golden(file))?)?;
        let tensor = &mut tensors[member][index];
        let rows = usize::try_from(tensor["shape"][0].as_u64().context("a number of rows")?)?;
        Ok(Self { rows, data: serde_json::from_value(tensor["data"].take())? })
    }

    fn row(&self, row: usize) -> &[Value] {
        let columns = self.data.len() / self.rows;
        &self.data[row * columns..(row + 1) * columns]
    }
}
