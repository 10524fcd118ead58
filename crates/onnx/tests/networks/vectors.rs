//! The files in `tests/golden/models/neural`, with the rows and the answers of the library that made the model.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Deserialize)]
struct Inputs {
    inputs: Vec<Values>,
}

#[derive(Deserialize)]
struct Outputs {
    outputs: Vec<Values>,
}

/// A tensor: its first dimension is the rows.
#[derive(Deserialize)]
pub(crate) struct Values {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

impl Values {
    /// The numbers of each row.
    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.data.chunks_exact(self.data.len() / self.shape[0])
    }
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models/neural"))
}

/// The names of all models.
pub(crate) fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.filter_map(|file| file.strip_suffix(".onnx").map(str::to_owned)).collect();
    names.sort();
    names
}

/// The bytes of a model.
pub(crate) fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.onnx"))).unwrap()
}

/// The rows, each with the numbers of all inputs.
pub(crate) fn rows(name: &str) -> Vec<Vec<f64>> {
    let text = fs::read(folder().join(format!("{name}.input.json"))).unwrap();
    let inputs = serde_json::from_slice::<Inputs>(&text).unwrap().inputs;
    let mut rows = vec![Vec::new(); inputs[0].shape[0]];
    for input in &inputs {
        rows.iter_mut().zip(input.rows()).for_each(|(row, values)| row.extend_from_slice(values));
    }
    rows
}

/// The answers, output by output.
pub(crate) fn expected(name: &str) -> Vec<Values> {
    let text = fs::read(folder().join(format!("{name}.expected.json"))).unwrap();
    serde_json::from_slice::<Outputs>(&text).unwrap().outputs
}
