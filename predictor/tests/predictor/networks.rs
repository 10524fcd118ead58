//! Neural networks: an artifact gives the answers of the library, and survives being written and read.

use std::fs;
use std::path::PathBuf;

use canopy_contract::rows::Rows;
use canopy_contract::serving::{ModelFormat, ServingConfig};
use canopy_predictor::artifact::Artifact;
use canopy_predictor::engine::head::Answer;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::training::import::of_bytes;
use canopy_predictor::training::prepare::prepare;
use serde_json::{Value, json};

use crate::harness::config;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/neural")).join(name)
}

fn of_file(name: &str, classes: &[&str]) -> ServingConfig {
    let path = path(&format!("{name}.onnx"));
    let artifact =
        json!({"train": null, "artifact": {"source": {"path": path}}, "features": [], "classes": classes});
    config(&[&artifact])
}

fn tensor(name: &str, member: &str, index: usize) -> (usize, Vec<f64>) {
    let text = fs::read(path(name)).unwrap();
    let tensors: Value = serde_json::from_slice(&text).unwrap();
    let tensor = &tensors[member][index];
    let data = tensor["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    (tensor["shape"][0].as_u64().unwrap() as usize, data)
}

#[test]
fn the_probabilities_of_an_artifact_are_those_of_the_network() {
    for (name, output, classes) in [
        ("torch_mlp_softmax_legacy", 0, &["a", "b", "c", "d"][..]),
        ("keras_mlp", 0, &["a", "b", "c"]),
        ("skl_mlp_binary", 1, &[]),
        ("skl_mlp_classifier", 1, &[]),
    ] {
        let bytes = fs::read(path(&format!("{name}.onnx"))).unwrap();
        let made = of_bytes(&bytes, Some(ModelFormat::Onnx), &of_file(name, classes)).unwrap();
        let artifact = Artifact::decode(&made.encode().unwrap()).unwrap();
        assert_eq!(artifact, made, "{name}");
        let (count, inputs) = tensor(&format!("{name}.input.json"), "inputs", 0);
        let (_, expected) = tensor(&format!("{name}.expected.json"), "outputs", output);
        let rows: Vec<_> = inputs.chunks_exact(inputs.len() / count).map(<[f64]>::to_vec).collect();
        let found = artifact.load().outputs(&Rows::instances(rows)).unwrap();
        for (row, expected) in found.iter().zip(expected.chunks_exact(expected.len() / count)) {
            assert!(
                row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5),
                "{name}: {row:?}, {expected:?}"
            );
        }
    }
}

#[test]
fn a_network_that_does_not_fit_the_config_is_refused() {
    for (name, classes, expected) in [
        ("torch_mlp_softmax_legacy", &["a", "b"][..], "2 classes are declared, but the network has 4 scores"),
        ("skl_mlp_regressor", &["a", "b"], "export it with a final sigmoid"),
    ] {
        let bytes = fs::read(path(&format!("{name}.onnx"))).unwrap();
        let error = of_bytes(&bytes, None, &of_file(name, classes)).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let bytes = fs::read(path("keras_mlp.onnx")).unwrap();
    let error =
        of_bytes(&bytes, Some(ModelFormat::Skops), &of_file("keras_mlp", &[])).unwrap_err().to_string();
    assert_eq!(error, "the file has the format ONNX, but the format Skops is declared");
}

#[test]
fn a_network_with_several_outputs_has_values_by_name() {
    let name = "torch_multi_output_dynamo";
    let made = prepare(&of_file(name, &[]), Trainer::Native, &|_, _| ()).unwrap();
    let artifact = Artifact::decode(&made.artifact).unwrap();
    let outputs = artifact.card().outputs.clone();
    assert_eq!(outputs.len(), 4, "{outputs:?}");
    let alone = artifact.load().predict(&Rows::single(made.golden.features.clone())).unwrap();
    assert_eq!(alone, [made.golden.answer]);
    assert!(matches!(&alone[0], Answer::Values { prediction } if prediction.len() == 4), "{alone:?}");
}

#[test]
fn the_golden_answer_of_a_network_is_that_of_the_row_alone() {
    for (name, classes) in [
        ("torch_mlp_softmax_legacy", &["a", "b", "c", "d"][..]),
        ("skl_mlp_classifier", &[]),
        ("skl_mlp_regressor", &[]),
    ] {
        let made = prepare(&of_file(name, classes), Trainer::Native, &|_, _| ()).unwrap();
        let model = Artifact::decode(&made.artifact).unwrap().load();
        let alone = model.predict(&Rows::single(made.golden.features.clone())).unwrap();
        assert_eq!(alone, [made.golden.answer], "{name}");
    }
}
