//! Neural networks: an artifact gives the answers of the library, and survives being written and read.

use std::fs;
use std::path::PathBuf;

use canopy_contract::rows::Rows;
use canopy_contract::serving::{ModelFormat, ServingConfig};
use canopy_predictor::artifact::Artifact;
use canopy_predictor::engine::head::Answer;
use canopy_predictor::engine::interface::EngineError;
use canopy_predictor::engine::training::Trainer;
use canopy_predictor::training::import::of_bytes;
use canopy_predictor::training::prepare::{PrepareError, prepare};
use serde_json::{Value, json};

use crate::harness::{LIMITS, Port, config};

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
        ("skl_sgd_log_loss", 1, &[]),
        ("skl_sgd_modified_huber", 1, &[]),
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
        (
            "torch_mlp_softmax_legacy",
            &[],
            "the network has 4 probabilities for each row, but no classes are declared: declare 4 classes with spec.classes",
        ),
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

#[test]
fn rows_that_are_made_up_have_whole_numbers_where_a_network_takes_no_others() {
    for (name, classes, integers) in [
        ("torch_embed_two_inputs_legacy", &["no", "yes"][..], 2),
        ("keras_multi_input", &["no", "yes"], 2),
        ("torch_mlp_softmax_legacy", &["a", "b", "c", "d"], 0),
    ] {
        let made = prepare(&of_file(name, classes), Trainer::Native, &|_, _| ()).unwrap();
        let is_index = |value: &&f64| [0_f64, 1.0].contains(value);
        for row in [&made.golden.features, &made.example] {
            assert_eq!(row.iter().filter(is_index).count(), integers, "{name}: {row:?}");
        }
    }
}

#[tokio::test]
async fn a_value_that_a_network_does_not_take_is_the_error_of_the_client_and_names_the_feature() {
    let made =
        prepare(&of_file("torch_embed_two_inputs_dynamo", &["no", "yes"]), Trainer::Native, &|_, _| ());
    let artifact = Artifact::decode(&made.unwrap().artifact).unwrap();
    let port = Port::empty(LIMITS);
    port.app.loaded(port.model(Box::new(artifact.load()), artifact.card().features.clone()));
    port.app.proven();
    for (body, status, expected) in [
        (json!({"features": [0.5, 0.5, 0.5, 0.5, 0.5, 1, 1]}), 200, r#"{"prediction":"#),
        (
            json!({"features": [0.5, 0.5, 0.5, 0.5, 0.5, 1, 0.5]}),
            422,
            r#"{"detail":[{"loc":["body","features",6],"msg":"cat_1 must be a whole number of 32 bits, but is 0.5","type":"value_error"}]}"#,
        ),
        (
            json!({"instances": [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 3e9, 1]]}),
            422,
            r#"{"detail":[{"loc":["body","instances",1,5],"msg":"cat_0 must be a whole number of 32 bits, but is 3000000000","type":"value_error"}]}"#,
        ),
        (
            json!({"instances": [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1000]]}),
            422,
            r#"{"detail":[{"loc":["body","instances",1,6],"msg":"cat_1 must be an index that the network has, but is 1000","type":"value_error"}]}"#,
        ),
        (
            json!({"instances": [[0, 0, 0, 0, 0, 1, 1], [0, 0, 1e39, 0, 0, 1, 1]]}),
            422,
            r#"{"detail":[{"loc":["body","instances",1,2],"msg":"num_2 must be within the range of 32-bit floats, but is 1000000000000000000000000000000000000000","type":"value_error"}]}"#,
        ),
    ] {
        let answer = port.post(body.to_string()).await;
        assert!(answer.status == status && answer.body.starts_with(expected), "{answer:?}");
    }
}

#[test]
fn the_row_of_a_wrong_value_is_counted_over_all_blocks_of_rows() {
    let made =
        prepare(&of_file("torch_embed_two_inputs_dynamo", &["no", "yes"]), Trainer::Native, &|_, _| ());
    let model = Artifact::decode(&made.unwrap().artifact).unwrap().load();
    let mut rows = vec![vec![0.0; 7]; 2000];
    rows[1500][6] = 0.5;
    let expected =
        EngineError::Input { row: 1500, column: 6, must: "must be a whole number of 32 bits", value: 0.5 };
    assert_eq!(model.predict(&Rows::instances(rows)).unwrap_err(), expected);
}

#[test]
fn an_example_or_a_table_with_a_value_that_a_network_does_not_take_is_refused() {
    let prepared = |change: &Value| {
        let mut config =
            serde_json::to_value(of_file("torch_embed_two_inputs_dynamo", &["no", "yes"])).unwrap();
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        match prepare(&serde_json::from_value(config).unwrap(), Trainer::Native, &|_, _| ()) {
            Err(PrepareError::Refused(refused)) => refused.to_string(),
            other => panic!("{:?}", other.map(|preparation| preparation.report)),
        }
    };
    let example = json!({"features": [0, 0, 0, 0, 0, 1, 0.5], "expected": {"class": 0}});
    assert_eq!(
        prepared(&json!({"examples": [example]})),
        "example_mismatch: examples[0].features: feature \"cat_1\" must be a whole number of 32 bits, but is 0.5"
    );
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    fs::write(
        &table,
        "num_0,num_1,num_2,num_3,num_4,cat_0,cat_1,y\n0,0,0,0,0,1,1,no\n0,0,0,0,0,0.25,1,yes\n",
    )
    .unwrap();
    let data = json!({"csv": {"source": {"path": table}, "target": "y"}});
    assert_eq!(
        prepared(&json!({"evaluate": {"data": data}})),
        "data_invalid: row 2: feature \"cat_0\" must be a whole number of 32 bits"
    );
}
