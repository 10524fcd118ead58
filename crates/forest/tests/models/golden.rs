//! The golden files: models, rows and the answers of the library that wrote the model.

use std::fs;
use std::path::PathBuf;

use canopy_forest::read::error::{Limits, ReadError};
use canopy_forest::read::model::{ImportedModel, Output};
use canopy_forest::read::reader::read;
use serde::Deserialize;

#[derive(Deserialize)]
struct Tensors {
    #[serde(alias = "inputs", alias = "outputs")]
    tensors: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    data: Vec<Option<f64>>,
}

/// The largest difference between scores, relative to values above 1.
const TOLERANCE: f64 = 1e-5;

/// The bytes of a model, by its name in `tests/golden/models`.
pub(crate) fn file(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models")).join(name)
}

/// The names of the models that begin so and end so.
pub(crate) fn names(folder: &str, start: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(path(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_model = |name: &String| {
        name.starts_with(start)
            && name.ends_with(end)
            && !name.ends_with(".input.json")
            && !name.ends_with(".expected.json")
    };
    let mut names: Vec<_> = names.filter(is_model).map(|name| format!("{folder}/{name}")).collect();
    names.sort();
    names
}

pub(crate) fn model(name: &str) -> Result<ImportedModel, ReadError> {
    read(&file(name), &Limits::default())
}

fn tensors(name: &str, kind: &str) -> Vec<Tensor> {
    let stem = name.rsplit_once('.').unwrap().0;
    let tensors: Tensors = serde_json::from_slice(&file(&format!("{stem}.{kind}.json"))).unwrap();
    tensors.tensors
}

/// Rows of equal length; null is NaN.
fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    let width = tensor.data.len() / tensor.shape[0];
    tensor.data.chunks(width).map(|row| row.iter().map(|value| value.unwrap_or(f64::NAN)).collect()).collect()
}

/// Checks that the model gives the library's answers: labels equal, numbers within the tolerance.
pub(crate) fn check(name: &str) {
    let model = model(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let inputs = rows(&tensors(name, "input")[0]);
    let expected = tensors(name, "expected");
    assert!(inputs.len() >= 60, "{name}: {} rows", inputs.len());
    for tensor in &expected {
        for (index, (row, expected)) in inputs.iter().zip(rows(tensor)).enumerate() {
            let found = match &tensor.name[..] {
                // A random forest's raw scores are sums over the trees, but its predictions use the mean.
                "raw" if name.contains("lgb_rf") => continue,
                "raw" | "margin" => model.scores(row),
                "prediction" => prediction(&model, row, expected.len(), name.contains("softmax")),
                other => panic!("{name}: unknown output {other}"),
            };
            assert_close(&found, &expected, &format!("{name}, {}, row {index}", tensor.name));
        }
    }
}

/// What the library's `predict` returns: the class, one probability per class, or that of the second class, or values.
fn prediction(model: &ImportedModel, row: &[f64], width: usize, is_class: bool) -> Vec<f64> {
    let outputs = model.outputs(row);
    match &model.output {
        Output::Classes(_) if is_class => {
            let mut best = 0;
            for index in 0..outputs.len() {
                best = if outputs[index] > outputs[best] { index } else { best };
            }
            vec![best as f64]
        }
        Output::Classes(labels) if labels.len() == 2 && width == 1 => vec![outputs[1]],
        Output::Classes(_) | Output::Values(_) => outputs,
    }
}

fn assert_close(found: &[f64], expected: &[f64], place: &str) {
    assert_eq!(found.len(), expected.len(), "{place}");
    for (found, expected) in found.iter().zip(expected) {
        let difference = (found - expected).abs();
        assert!(difference <= TOLERANCE * expected.abs().max(1.0), "{place}: {found} must be {expected}");
    }
}
