//! Hostile files: damaged ones, and ones whose counts and shapes lie.

use canopy_forest::read::error::Limits;
use canopy_forest::read::onnx;
use proptest::prelude::*;

use crate::golden::{file, names};
use crate::write::{Graph, Message, Node, floats};

fn error(graph: &Graph) -> String {
    onnx::read(&graph.file(), &Limits::default()).unwrap_err().to_string()
}

/// Reads bytes, and evaluates a row where they are a model.
fn try_out(bytes: &[u8]) {
    if let Ok(model) = onnx::read(bytes, &Limits::default()) {
        let row = vec![0.5; model.inputs.len()];
        assert_eq!(model.scores(&row).len(), model.model.scores());
    }
}

#[test]
fn a_file_that_ends_early_is_refused_or_complete() {
    for name in ["skl_gb_binary", "skl_columns_onehot_logreg", "cat_regression"] {
        let bytes = file(name);
        for length in 0..bytes.len() {
            try_out(&bytes[..length]);
        }
        assert!(onnx::read(&bytes[..bytes.len() / 2], &Limits::default()).is_err(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_bytes_end_in_a_model_or_an_error(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let names = names();
        let mut bytes = file(&names[which.index(names.len())]);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        try_out(&bytes);
    }

    #[test]
    fn any_bytes_end_in_a_model_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        try_out(&bytes);
    }
}

/// A forest of one tree, with these children.
fn tree(children: &[(i64, i64)]) -> Graph {
    let count = i64::try_from(children.len()).unwrap();
    let ids: Vec<_> = (0..count).collect();
    let node = Node::ml("TreeEnsembleRegressor", &["x"], &["y"])
        .ints("nodes_treeids", &vec![0; children.len()])
        .ints("nodes_nodeids", &ids)
        .ints("nodes_featureids", &vec![0; children.len()])
        .ints("nodes_truenodeids", &children.iter().map(|pair| pair.0).collect::<Vec<_>>())
        .ints("nodes_falsenodeids", &children.iter().map(|pair| pair.1).collect::<Vec<_>>())
        .floats("nodes_values", &vec![0.0; children.len()])
        .texts(
            "nodes_modes",
            &children.iter().map(|pair| if pair.0 < 0 { "LEAF" } else { "BRANCH_LEQ" }).collect::<Vec<_>>(),
        );
    Graph::default().input("x", 1, 1).node(&node).output("y")
}

const LEAF: (i64, i64) = (-1, -1);

#[test]
fn trees_that_are_none_are_refused() {
    for (children, expected) in [
        (vec![(0, 1), LEAF], "tree 0 has no root"),
        (vec![(0, 2), LEAF, LEAF], "node 0 is not reached from the root of its tree"),
        (vec![(1, 2), (0, 2), LEAF, LEAF], "node 0 is not reached from the root of its tree"),
        (vec![(1, 1), LEAF], "node 1 is reached by two paths"),
        (vec![(1, 2), (3, 2), LEAF, LEAF], "node 2 is reached by two paths"),
        (vec![(1, 9), LEAF], "tree 0 has no node with the id 9"),
        (vec![(1, i64::MIN), LEAF], "tree 0 has no node with the id -9223372036854775808"),
    ] {
        let found = error(&tree(&children));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn counts_and_shapes_that_lie_are_refused() {
    let regressor = |node: &Node| Graph::default().input("x", 1, 1).node(node).output("y");
    let trees = Node::ml("TreeEnsembleRegressor", &["x"], &["y"]);
    let huge = floats("", &[1 << 40, 1 << 40], &[1.0]);
    let ensemble = Node::ml("TreeEnsemble", &["x"], &["y"]);
    for (graph, expected) in [
        (regressor(&trees.clone().int("n_targets", i64::MAX)), "targets"),
        (regressor(&trees.clone().int("n_targets", -1)), "there are -1 targets"),
        (regressor(&trees.ints("nodes_treeids", &[0])), "nodes_nodeids has 0 elements for 1 nodes"),
        (
            regressor(&ensemble.tensor("leaf_weights", &huge)),
            "a tensor of shape [1099511627776, 1099511627776]",
        ),
        (Graph::default().input("x", 1, i64::MAX), "inputs must be at most 1048576, got 9223372036854775807"),
        (
            Graph::default().input("x", 1, 1 << 20).input("y", 1, 1),
            "inputs must be at most 1048576, got 1048577",
        ),
    ] {
        let found = error(&graph);
        assert!(found.contains(expected), "{found}");
    }
    let limits = Limits { bytes: 10, ..Limits::default() };
    let bytes = file("cat_binary");
    let found = onnx::read(&bytes, &limits).unwrap_err().to_string();
    assert_eq!(found, format!("ONNX file: bytes must be at most 10, got {}", bytes.len()));
}

#[test]
fn columns_that_double_again_and_again_are_refused() {
    let mut graph = Graph::default().input("x0", 1, 1);
    for index in 0..60 {
        let (from, to) = (format!("x{index}"), format!("x{}", index + 1));
        graph = graph.node(&Node::core("Concat", &[&from, &from], &[&to]).int("axis", 1));
    }
    assert!(error(&graph).contains("columns must be at most 1048576"));
    let mut graph = Graph::default().input("x0", 1, 1000);
    for index in 0..10_000 {
        let (from, to) = (format!("x{index}"), format!("x{}", index + 1));
        graph = graph.node(&Node::ml("Binarizer", &[&from], &[&to]));
    }
    assert!(error(&graph).contains("columns of preprocessing must be at most"));
}

#[test]
fn many_small_messages_are_refused() {
    let mut graph = Message::default();
    for _ in 0..100_001 {
        graph = graph.bytes(1, "");
    }
    let bytes = Message::default().message(7, &graph);
    let found = onnx::read(bytes.as_ref(), &Limits::default()).unwrap_err().to_string();
    assert_eq!(found, "ONNX file: nodes, attributes and tensors must be at most 100000, got 100001");
}

#[test]
fn messages_within_messages_are_not_followed() {
    let mut nested = Message::default();
    for _ in 0..20_000 {
        nested = Message::default().message(6, &nested);
    }
    let node = Node::core("If", &["x"], &["y"]).graph(&nested);
    assert!(error(&Graph::default().input("x", 1, 1).node(&node)).contains("operator \"If\""));
}
