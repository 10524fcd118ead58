//! The scores and labels of networks of `PyTorch`, Keras and scikit-learn are those of the library.

use canopy_onnx::error::Limits;
use canopy_onnx::graph::{End, Graph};
use canopy_onnx::network::Network;

use crate::vectors::{expected, file, names, rows};

pub(crate) fn loaded(bytes: &[u8]) -> (Graph, Network) {
    let graph = Graph::read(bytes, &Limits::default()).unwrap();
    let network = Network::load(&graph, &Limits::default()).unwrap();
    (graph, network)
}

fn run(network: &Network, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut scores = vec![0.0; rows.len() * network.outputs()];
    network.run(&rows.concat(), &mut scores).unwrap();
    scores.chunks_exact(network.outputs()).map(<[f64]>::to_vec).collect()
}

fn largest(scores: &[f64]) -> usize {
    (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
}

#[test]
fn scores_are_within_a_hundred_thousandth_of_the_librarys() {
    let names = names();
    assert_eq!(names.len(), 28, "{names:?}");
    for name in names {
        let (graph, network) = loaded(&file(&name));
        let rows = rows(&name);
        let scores = run(&network, &rows);
        let mut from = 0;
        for output in expected(&name) {
            if output.dtype == "int64" {
                let labels = graph.labels().unwrap();
                for (row, (label, scores)) in output.rows().zip(&scores).enumerate() {
                    assert_eq!(labels[largest(scores)], label[0].to_string(), "{name}, row {row}");
                }
                continue;
            }
            for (row, (expected, scores)) in output.rows().zip(&scores).enumerate() {
                for (column, expected) in expected.iter().enumerate() {
                    let found = scores[from + column];
                    let difference = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(difference < 1e-5, "{name}, {}, row {row}: {found} for {expected}", output.name);
                }
            }
            from += output.data.len() / output.shape[0];
        }
        assert_eq!(from, network.outputs(), "{name}");
    }
}

#[test]
fn a_row_alone_has_the_scores_that_it_has_among_others() {
    for name in names() {
        let (_, network) = loaded(&file(&name));
        let rows = rows(&name);
        let together = run(&network, &rows);
        for (row, together) in rows.iter().zip(&together) {
            let alone = &run(&network, std::slice::from_ref(row))[0];
            for (a, b) in alone.iter().zip(together) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} alone, {b} among others");
            }
        }
    }
}

#[test]
fn a_file_that_was_written_is_read_again_as_the_same_graph() {
    for name in names() {
        let (graph, network) = loaded(&file(&name));
        let (again, network_again) = loaded(graph.bytes());
        assert_eq!(again.bytes(), graph.bytes(), "{name}");
        assert_eq!((again.inputs(), again.end()), (graph.inputs(), graph.end()), "{name}");
        let rows = rows(&name);
        assert_eq!(run(&network, &rows), run(&network_again, &rows), "{name}");
    }
}

#[test]
fn inputs_and_outputs_have_names_and_an_end() {
    for (name, inputs, outputs, end, is_distribution) in [
        ("torch_mlp_softmax_legacy", 8, 4, End::Softmax, true),
        ("torch_mlp_bn_logits_legacy", 8, 3, End::Other, false),
        ("torch_embed_two_inputs_dynamo", 7, 1, End::Sigmoid, false),
        ("torch_multi_output_legacy", 6, 4, End::Other, false),
        ("torch_conv1d_dynamo", 48, 2, End::Other, false),
        ("skl_mlp_binary", 6, 2, End::Other, true),
        ("skl_mlp_regressor", 6, 1, End::Other, false),
    ] {
        let (graph, network) = loaded(&file(name));
        let found = (network.inputs(), network.outputs(), graph.end(), network.is_distribution());
        assert_eq!(found, (inputs, outputs, end, is_distribution), "{name}");
    }
    let (graph, network) = loaded(&file("torch_embed_two_inputs_legacy"));
    assert_eq!(graph.inputs()[1].column_names(), ["cat_0", "cat_1"]);
    assert!(graph.inputs()[1].is_integer && !graph.inputs()[0].is_integer);
    assert_eq!(network.output_names(), ["score"]);
    let (_, network) = loaded(&file("torch_multi_output_dynamo"));
    assert_eq!(network.output_names(), ["mean_0", "mean_1", "var_0", "var_1"]);
}

#[test]
fn normalisation_of_rows_is_folded_away() {
    for (name, operators) in [("torch_mlp_bn_logits_legacy", 11), ("torch_embed_two_inputs_legacy", 13)] {
        let bytes = file(name);
        let graph = Graph::read(&bytes, &Limits::default()).unwrap();
        // The field of an operator's name, with its length.
        let operator = b"\x22\x12BatchNormalization";
        let has = |bytes: &[u8]| bytes.windows(operator.len()).any(|window| window == operator);
        assert!(has(&bytes) && !has(graph.bytes()), "{name}");
        assert_eq!(graph.operators().values().sum::<usize>(), operators, "{name}");
    }
}
