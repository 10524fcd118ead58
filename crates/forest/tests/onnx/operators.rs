//! Operators that the kept files do not have, in models written here. Expected scores follow the definitions of ONNX.

use canopy_forest::read::error::Limits;
use canopy_forest::read::model::{ImportedModel, InputKind, Output};
use canopy_forest::read::onnx;

use crate::write::{Graph, Node, floats, ints};

const NAN: f64 = f64::NAN;

fn read(graph: &Graph) -> Result<ImportedModel, String> {
    onnx::read(&graph.file(), &Limits::default()).map_err(|error| error.to_string())
}

/// One tree of one split: 1 where the test of `mode` with 2 is passed, otherwise 0.
fn split(mode: &str, tracks: i64) -> Node {
    Node::ml("TreeEnsembleRegressor", &["x"], &["y"])
        .ints("nodes_treeids", &[0; 3])
        .ints("nodes_nodeids", &[0, 1, 2])
        .ints("nodes_featureids", &[1, 0, 0])
        .ints("nodes_truenodeids", &[1, 0, 0])
        .ints("nodes_falsenodeids", &[2, 0, 0])
        .ints("nodes_missing_value_tracks_true", &[tracks, 0, 0])
        .floats("nodes_values", &[2.0, 0.0, 0.0])
        .texts("nodes_modes", &[mode, "LEAF", "LEAF"])
        .ints("target_treeids", &[0])
        .ints("target_nodeids", &[1])
        .ints("target_ids", &[0])
        .floats("target_weights", &[1.0])
}

fn graph(node: &Node) -> Graph {
    Graph::default().input("x", 1, 2).node(node).output("y")
}

#[test]
fn each_mode_sends_values_and_nan_where_its_definition_says() {
    let values = [1.0, 2.0, 3.0, NAN];
    for (mode, expected) in [
        ("BRANCH_LEQ", [1.0, 1.0, 0.0, 0.0]),
        ("BRANCH_LT", [1.0, 0.0, 0.0, 0.0]),
        ("BRANCH_GTE", [0.0, 1.0, 1.0, 0.0]),
        ("BRANCH_GT", [0.0, 0.0, 1.0, 0.0]),
        ("BRANCH_EQ", [0.0, 1.0, 0.0, 0.0]),
        ("BRANCH_NEQ", [1.0, 0.0, 1.0, 1.0]),
    ] {
        for tracks in [0, 1] {
            let model = read(&graph(&split(mode, tracks))).unwrap();
            for (value, expected) in values.into_iter().zip(expected) {
                let expected = if value.is_nan() && tracks == 1 { 1.0 } else { expected };
                assert_eq!(model.outputs(&[7.0, value]), [expected], "{mode} of {value}, tracks {tracks}");
            }
        }
    }
    let model = read(&graph(&split("BRANCH_EQ", 0))).unwrap();
    assert_eq!(model.outputs(&[0.0, 2.5]), [0.0], "a fraction is not equal");
    assert_eq!(model.outputs(&[0.0, -2.0]), [0.0]);
}

#[test]
fn an_unknown_mode_is_refused() {
    assert_eq!(
        read(&graph(&split("BRANCH_X", 0))).unwrap_err(),
        "ONNX file, a node TreeEnsembleRegressor: a node has the mode \"BRANCH_X\"; \
         the file is damaged or was not written by this library"
    );
}

/// Two trees of the second form: `x1 in {1, 2.5}` and `x0 <= 0`; the third tree is a leaf.
fn ensemble() -> Node {
    Node::ml("TreeEnsemble", &["x"], &["y"])
        .int("n_targets", 2)
        .ints("tree_roots", &[0, 1, 2])
        .ints("nodes_featureids", &[1, 0, 0])
        .tensor("nodes_splits", &floats("", &[3], &[0.0, 0.0, 0.0]))
        .tensor("nodes_modes", &crate::write::Message::default().int(1, 3).int(2, 2).bytes(9, [6, 0, 0]))
        .ints("nodes_truenodeids", &[0, 2, 4])
        .ints("nodes_trueleafs", &[1, 1, 1])
        .ints("nodes_falsenodeids", &[1, 3, 4])
        .ints("nodes_falseleafs", &[1, 1, 1])
        .tensor("membership_values", &floats("", &[3], &[1.0, 2.5, f32::NAN]))
        .ints("leaf_targetids", &[0, 0, 1, 1, 1])
        .tensor("leaf_weights", &floats("", &[5], &[1.0, 2.0, 10.0, 20.0, 100.0]))
}

#[test]
fn an_ensemble_of_the_fifth_version_has_sets_and_single_leaves() {
    let model = read(&graph(&ensemble())).unwrap();
    assert_eq!(model.output, Output::Values(vec!["y.0".to_owned(), "y.1".to_owned()]));
    for (row, expected) in [
        ([0.0, 1.0], [1.0, 110.0]),
        ([1.0, 2.5], [1.0, 120.0]),
        ([0.0, 2.0], [2.0, 110.0]),
        ([NAN, NAN], [2.0, 120.0]),
    ] {
        assert_eq!(model.outputs(&row), expected, "{row:?}");
    }
    let mean = read(&graph(&ensemble().int("aggregate_function", 0))).unwrap();
    let found = mean.outputs(&[0.0, 1.0]);
    assert!((found[0] - 1.0 / 3.0).abs() < 1e-9 && (found[1] - 110.0 / 3.0).abs() < 1e-9, "{found:?}");
    let softmax = read(&graph(&ensemble().int("post_transform", 1))).unwrap();
    assert_eq!(softmax.output, Output::Classes(vec!["0".to_owned(), "1".to_owned()]));
    let error = read(&graph(&ensemble().int("aggregate_function", 3))).unwrap_err();
    assert!(error.contains("aggregate_function \"MAX\" is not supported"), "{error}");
}

fn sum(of: &str, columns: usize) -> Node {
    Node::ml("LinearRegressor", &[of], &["y"]).floats("coefficients", &vec![1.0; columns])
}

#[test]
fn texts_become_numbers_by_their_encoders() {
    let encoder = Node::ml("LabelEncoder", &["city"], &["code"])
        .texts("keys_strings", &["Oslo", "Bern"])
        .ints("values_int64s", &[10, 20])
        .int("default_int64", -5);
    let graph = Graph::default()
        .input("city", 8, 1)
        .input("x", 1, 2)
        .node(&encoder)
        .node(&Node::core("Cast", &["code"], &["number"]).int("to", 1))
        .node(&Node::core("Concat", &["number", "x"], &["row"]).int("axis", 1))
        .node(&sum("row", 3))
        .output("y");
    let model = read(&graph).unwrap();
    let categories = vec!["Oslo".to_owned(), "Bern".to_owned()];
    assert_eq!(model.inputs[0].kind, InputKind::Categorical { categories });
    assert_eq!(model.inputs[2].name.as_deref(), Some("x.1"));
    assert_eq!(model.outputs(&[1.0, 1.0, 2.0]), [23.0]);
    assert_eq!(model.outputs(&[-1.0, 1.0, 2.0]), [-2.0]);
}

#[test]
fn columns_are_chosen_scaled_and_normalised() {
    let graph = Graph::default()
        .input("x", 1, 3)
        .constant(&ints("which", &[2, 0]))
        .constant(&floats("two", &[1], &[2.0]))
        .node(&Node::ml("ArrayFeatureExtractor", &["x", "which"], &["chosen"]))
        .node(&Node::core("Sub", &["chosen", "two"], &["less"]))
        .node(&Node::core("Div", &["less", "two"], &["half"]))
        .node(&Node::ml("Normalizer", &["half"], &["unit"]).text("norm", "L2"))
        .node(&Node::ml("Binarizer", &["unit"], &["bits"]).float("threshold", 0.7))
        .node(&Node::ml("LinearRegressor", &["bits"], &["y"]).floats("coefficients", &[1.0, 10.0]))
        .output("y");
    let model = read(&graph).unwrap();
    // (8 - 2) / 2 = 3 and (10 - 2) / 2 = 4, so the row is 0.6 and 0.8.
    assert_eq!(model.outputs(&[10.0, 99.0, 8.0]), [10.0]);
    assert_eq!(model.outputs(&[8.0, 99.0, 10.0]), [1.0]);
}

fn linear(weights: &[f32], labels: &[i64], post: &str) -> Graph {
    let node = Node::ml("LinearClassifier", &["x"], &["label", "y"])
        .floats("coefficients", weights)
        .ints("classlabels_ints", labels)
        .text("post_transform", post);
    Graph::default().input("x", 1, 1).node(&node)
}

#[test]
fn a_classifier_of_one_score_and_one_of_shares_give_probabilities() {
    let close = |found: Vec<f64>, expected: &[f64]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}, not {expected:?}");
    };
    let binary = read(&linear(&[1.0], &[3, 7], "LOGISTIC").output("y")).unwrap();
    close(binary.outputs(&[3_f64.ln()]), &[0.25, 0.75]);
    let shares = Node::ml("Normalizer", &["y"], &["shares"]).text("norm", "L1");
    let shares = linear(&[0.0, 1.0], &[3, 7], "LOGISTIC").node(&shares).output("shares").output("label");
    close(read(&shares).unwrap().outputs(&[3_f64.ln()]), &[0.4, 0.6]);
    let error = read(&linear(&[0.0, 1.0], &[3, 7], "NONE").output("y")).unwrap_err();
    assert!(error.contains("a classifier whose scores are not probabilities is not supported"), "{error}");
}

#[test]
fn scores_may_be_multiplied_by_one_and_raised_to_the_power_of_e() {
    let graph = |operator: &str, factor: f32| {
        let node = Node::core(operator, &["y", "factor"], &["z"]);
        let factor = floats("factor", &[1], &[factor]);
        Graph::default().input("x", 1, 2).constant(&factor).node(&sum("x", 2)).node(&node).output("z")
    };
    assert_eq!(read(&graph("Mul", 1.0)).unwrap().outputs(&[2.0, 3.0]), [5.0]);
    assert_eq!(read(&graph("Exp", 1.0)).unwrap().outputs(&[2.0, -2.0]), [1.0]);
    let error = read(&graph("Mul", 2.0)).unwrap_err();
    assert!(error.contains("operator \"Mul\" of \"ai.onnx\" is not supported"), "{error}");
    let classes =
        linear(&[0.0, 1.0], &[3, 7], "SOFTMAX").node(&Node::core("Exp", &["y"], &["z"])).output("z");
    let error = read(&classes).unwrap_err();
    assert!(error.contains("operator \"Exp\" of \"ai.onnx\" is not supported"), "{error}");
}

#[test]
fn what_is_not_supported_is_refused_with_its_node() {
    let node = |node: Node| Graph::default().input("x", 1, 2).node(&node).node(&sum("z", 2)).output("y");
    for (graph, expected) in [
        (
            node(Node::core("Exp", &["x"], &["z"])),
            "a node Exp: operator \"Exp\" of \"ai.onnx\" is not supported",
        ),
        (node(Node::ml("SVMRegressor", &["x"], &["z"])), "a node SVMRegressor: operator \"SVMRegressor\""),
        (node(Node::core("Concat", &["x", "x"], &["z"]).int("axis", 0)), "a node Concat: joining of rows"),
        (node(Node::core("Cast", &["x"], &["z"]).int("to", 8)), "a node Cast: a cast to element type 8"),
        (
            node(Node::core("Identity", &["w"], &["z"])),
            "a node Identity: its input is not computed before it",
        ),
        (node(Node::core("Identity", &["x"], &["x"])), "a node Identity: \"x\" is computed twice"),
        (graph(&sum("x", 3)), "a node LinearRegressor: 3 coefficients do not fit rows of 2 numbers"),
        (graph(&sum("x", 2)).output("x"), "outputs: output \"x\", which the model does not compute"),
        (Graph::default().input("x", 1, -1).node(&sum("x", 2)), "inputs: an input without a known number"),
        (Graph::default().input("x", 1, 2).output("x"), "outputs: a graph without trees"),
        (Graph::default(), "inputs: the graph has no inputs"),
    ] {
        let error = read(&graph).unwrap_err();
        assert!(error.starts_with(&format!("ONNX file, {expected}")), "{error}");
    }
}
