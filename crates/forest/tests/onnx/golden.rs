//! The files in `tests/golden/models/onnx`, with the rows and the answers of the library that trained the model.

use std::fs;
use std::path::PathBuf;

use canopy_forest::read::model::{ImportedModel, InputKind};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Inputs {
    inputs: Vec<Tensor>,
}

#[derive(Deserialize)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<Value>,
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models/onnx"))
}

/// The names of all models.
pub(crate) fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.filter_map(|file| file.strip_suffix(".onnx").map(str::to_owned)).collect();
    names.sort();
    names
}

pub(crate) fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.onnx"))).unwrap()
}

pub(crate) fn expected(name: &str) -> Vec<Tensor> {
    let text = fs::read(folder().join(format!("{name}.expected.json"))).unwrap();
    serde_json::from_slice::<Expected>(&text).unwrap().outputs
}

/// The rows, each with the columns of all inputs. A text is the index of its category, or -1.
pub(crate) fn rows(name: &str, model: &ImportedModel) -> Vec<Vec<f64>> {
    let text = fs::read_to_string(folder().join(format!("{name}.input.json"))).unwrap();
    // An infinity is no number of JSON.
    let text = text.replace("-Infinity", "\"-inf\"").replace("Infinity", "\"inf\"");
    let inputs = serde_json::from_str::<Inputs>(&text).unwrap().inputs;
    let mut rows = vec![Vec::new(); inputs[0].shape[0]];
    for input in &inputs {
        let width = input.data.len() / rows.len();
        for (row, values) in rows.iter_mut().zip(input.data.chunks(width)) {
            for value in values {
                let number = match (value, &model.inputs[row.len()].kind) {
                    (Value::Null, _) => f64::NAN,
                    (Value::String(text), InputKind::Categorical { categories }) => {
                        categories.iter().position(|known| known == text).map_or(-1.0, |index| index as f64)
                    }
                    (Value::String(text), InputKind::Numeric) => text.parse().unwrap(),
                    (value, _) => value.as_f64().unwrap(),
                };
                row.push(number);
            }
        }
    }
    rows
}
