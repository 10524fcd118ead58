//! Graphs that are written here: operators that are replaced, inputs of other forms, and what is refused by name.

use canopy_onnx::error::Limits;
use canopy_onnx::graph::Graph;
use canopy_onnx::network::Network;

use crate::golden::loaded;
use crate::write::{
    field, float_tensor, floats, input, int, int_tensor, ints, model, model_of, node, node_of, one, output,
    tensor,
};

fn scores(bytes: &[u8], row: &[f64]) -> Vec<f64> {
    let (_, network) = loaded(bytes);
    let mut scores = vec![0.0; network.outputs()];
    network.run(row, &mut scores).unwrap();
    scores
}

/// The reason why a file is refused, when it is read or loaded.
fn refusal(parts: &[Vec<u8>]) -> String {
    let limits = Limits::default();
    let loaded = Graph::read(&model(parts), &limits).and_then(|graph| Network::load(&graph, &limits));
    loaded.err().unwrap().to_string()
}

fn x() -> Vec<u8> {
    input("x", 1, &[-1, 2])
}

fn y() -> Vec<u8> {
    output("y", 1, &[-1, 2])
}

#[test]
fn operators_that_the_runtime_lacks_are_replaced() {
    let row = [-1.0, 2.0];
    for (operator, expected) in [
        ("Selu", [-1.111_330_7, 2.101_402]),
        ("Celu", [-0.632_120_55, 2.0]),
        ("Mish", [-0.303_401_46, 1.943_959]),
        ("Dropout", [-1.0, 2.0]),
    ] {
        let found = scores(&model(&[x(), y(), node(operator, &["x"], "y")]), &row);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{operator}: {found:?}");
    }
}

#[test]
fn softplus_of_a_large_number_is_that_number() {
    let network = model(&[x(), y(), node("Softplus", &["x"], "y")]);
    for (row, expected) in
        [([-1.0, 2.0], [0.313_261_7, 2.126_928]), ([-1e3, 1e3], [0.0, 1e3]), ([19.0, 21.0], [19.0, 21.0])]
    {
        let found = scores(&network, &row);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{row:?}: {found:?}");
    }
}

#[test]
fn a_number_other_than_zero_is_true_also_below_one() {
    let cast = |from: &str, to: &str, kind: i64| {
        let attribute = [field(1, "to"), int(3, kind), int(20, 2)].concat();
        node_of("", "Cast", &[from], to, &[attribute])
    };
    let network = model(&[x(), y(), cast("x", "b", 9), node("Not", &["b"], "n"), cast("n", "y", 1)]);
    for (row, expected) in [([0.25, 0.0], [0.0, 1.0]), ([-0.5, 3.0], [0.0, 0.0])] {
        assert_eq!(scores(&network, &row), expected, "{row:?}");
    }
}

#[test]
fn the_sign_of_zero_is_zero() {
    let network = model(&[x(), y(), node("Sign", &["x"], "y")]);
    for (row, expected) in [([0.0, -0.0], [0.0, 0.0]), ([-3.0, 0.5], [-1.0, 1.0])] {
        assert_eq!(scores(&network, &row), expected, "{row:?}");
    }
    let cast = |from: &str, to: &str, kind: i64| node_of("", "Cast", &[from], to, &[one("to", kind)]);
    let integers = [x(), y(), cast("x", "i", 7), node("Sign", &["i"], "s"), cast("s", "y", 1)];
    assert_eq!(scores(&model(&integers), &[0.0, -5.0]), [0.0, -1.0]);
}

#[test]
fn the_softmax_of_old_versions_is_over_all_dimensions_from_its_axis_on() {
    let ends = [input("x", 1, &[-1, 2, 2]), output("y", 1, &[-1, 2, 2])];
    let row = [0.0, 2.0_f64.ln(), 3.0_f64.ln(), 4.0_f64.ln()];
    for (opset, attributes, expected) in [
        (11, vec![one("axis", 1)], [0.1, 0.2, 0.3, 0.4]),
        (12, vec![], [0.1, 0.2, 0.3, 0.4]),
        (11, vec![one("axis", 2)], [1.0 / 3.0, 2.0 / 3.0, 3.0 / 7.0, 4.0 / 7.0]),
        (13, vec![one("axis", 1)], [0.25, 1.0 / 3.0, 0.75, 2.0 / 3.0]),
    ] {
        for operator in ["Softmax", "LogSoftmax"] {
            let parts = [ends.concat(), node_of("", operator, &["x"], "y", &attributes)];
            let mut found = scores(&model_of(opset, &parts), &row);
            if operator == "LogSoftmax" {
                found = found.into_iter().map(f64::exp).collect();
            }
            let is_near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(is_near, "{operator} of {opset}: {found:?}");
        }
    }
}

#[test]
fn of_equal_numbers_the_first_is_the_largest_and_the_smallest() {
    for (operator, keeps, expected) in
        [("ArgMax", 0, 1.0), ("ArgMax", 1, 1.0), ("ArgMin", 0, 0.0), ("ArgMin", 1, 0.0)]
    {
        let network = model(&[
            input("x", 1, &[-1, 4]),
            output("y", 1, &[-1]),
            float_tensor("one", &[], &[1.0]),
            node_of("", operator, &["x"], "i", &[one("axis", 1), one("keepdims", keeps)]),
            node_of("", "Cast", &["i"], "f", &[one("to", 1)]),
            node("Mul", &["f", "one"], "y"),
        ]);
        assert_eq!(scores(&network, &[-1.0, 3.0, 3.0, -1.0]), [expected], "{operator}");
    }
}

#[test]
fn convolutions_and_poolings_have_the_defaults_of_the_standard() {
    let weights = float_tensor("w", &[1, 1, 2], &[1.0, 10.0]);
    for (operator, inputs, attributes, expected) in [
        ("Conv", &["x", "w"][..], vec![], &[21.0, 32.0][..]),
        ("ConvTranspose", &["x", "w"], vec![], &[1.0, 12.0, 23.0, 30.0]),
        ("MaxPool", &["x"], vec![ints("kernel_shape", &[2])], &[2.0, 3.0]),
        ("AveragePool", &["x"], vec![ints("kernel_shape", &[2])], &[1.5, 2.5]),
    ] {
        let node = node_of("", operator, inputs, "y", &attributes);
        let ports = [input("x", 1, &[-1, 1, 3]), output("y", 1, &[-1, 1, 2])];
        let network = model(&[ports.concat(), weights.clone(), node]);
        assert_eq!(scores(&network, &[1.0, 2.0, 3.0]), expected, "{operator}");
    }
}

#[test]
fn an_operator_that_fails_is_named() {
    let weights = float_tensor("w", &[3, 1], &[1.0; 3]);
    let found = refusal(&[x(), y(), weights, node("MatMul", &["x", "w"], "y")]);
    assert!(found.starts_with("the graph cannot be run: operator \"MatMul of y\" failed: "), "{found}");
    // The runtime panics for such a step.
    let limits = [("from", i64::MIN), ("to", i64::MAX), ("axes", 1), ("steps", i64::MIN)];
    let [from, to, axes, steps] = limits.map(|(name, limit)| int_tensor(name, &[limit]));
    let slice = node("Slice", &["x", "from", "to", "axes", "steps"], "y");
    let found = refusal(&[x(), y(), from, to, axes, steps, slice]);
    assert!(found.starts_with("the graph cannot be run: Slice of \"y\" failed: "), "{found}");
}

#[test]
fn limits_beyond_32_bits_are_read() {
    let [from, to, axes] =
        [("from", 1), ("to", i64::MAX), ("axes", 1)].map(|(name, n)| int_tensor(name, &[n]));
    let slice = node("Slice", &["x", "from", "to", "axes"], "y");
    assert_eq!(scores(&model(&[x(), y(), from, to, axes, slice]), &[4.0, 5.0]), [5.0]);
}

#[test]
fn scalers_imputers_and_column_choices_of_scikit_learn_are_read() {
    let scaler = node_of(
        "ai.onnx.ml",
        "Scaler",
        &["x"],
        "s",
        &[floats("offset", &[1.0, 2.0]), floats("scale", &[0.5, 4.0])],
    );
    let imputer = node_of(
        "ai.onnx.ml",
        "Imputer",
        &["s"],
        "i",
        &[
            floats("imputed_value_floats", &[7.0, 8.0]),
            [field(1, "replaced_value_float"), vec![0x15], f32::NAN.to_le_bytes().to_vec(), int(20, 1)]
                .concat(),
        ],
    );
    let choice = node_of("ai.onnx.ml", "ArrayFeatureExtractor", &["i", "columns"], "y", &[]);
    let bytes = model(&[x(), y(), scaler, imputer, choice, int_tensor("columns", &[1, 0])]);
    assert_eq!(scores(&bytes, &[2.0, 3.0]), [4.0, 0.5]);
    assert_eq!(scores(&bytes, &[2.0, f64::NAN]), [8.0, 0.5]);
}

#[test]
fn inputs_of_one_column_are_features_by_name() {
    let bytes = model(&[
        input("age", 1, &[-1, 1]),
        input("count", 7, &[-1]),
        output("y", 1, &[-1, 1]),
        int_tensor("shape", &[-1, 1]),
        node_of("", "Cast", &["count"], "c", &[[field(1, "to"), int(3, 1), int(20, 2)].concat()]),
        node("Reshape", &["c", "shape"], "r"),
        node("Add", &["age", "r"], "y"),
    ]);
    let (graph, network) = loaded(&bytes);
    let names: Vec<_> = graph.inputs().iter().flat_map(canopy_onnx::port::Port::column_names).collect();
    assert_eq!(names, ["age", "count"]);
    let mut found = [0.0; 2];
    network.run(&[1.5, 2.0, 3.0, 4.0], &mut found).unwrap();
    assert_eq!(found, [3.5, 7.0]);
    for (value, expected) in [(0.5, "0.5"), (1e12, "1000000000000"), (f64::NAN, "NaN")] {
        let error = network.run(&[1.5, 2.0, 3.0, value], &mut [0.0; 2]).unwrap_err().to_string();
        let expected = format!("number 1 of row 1 must be a whole number of 32 bits, but is {expected}");
        assert_eq!(error, expected);
    }
}

#[test]
fn a_graph_of_one_row_computes_the_rows_one_by_one() {
    let bytes = model(&[input("x", 1, &[1, 2]), output("y", 1, &[1, 2]), node("Relu", &["x"], "y")]);
    let (_, network) = loaded(&bytes);
    let mut scores = [9.0; 4];
    network.run(&[1.0, -2.0, 3.0, -4.0], &mut scores).unwrap();
    assert_eq!(scores, [1.0, 0.0, 3.0, 0.0]);
    assert_eq!(network.cost(2), network.cost(1) * 2);
}

#[test]
fn normalisation_behind_other_operators_is_a_product_and_a_sum() {
    let list = |name, values: &[f32]| float_tensor(name, &[2], values);
    let bytes = model(&[
        x(),
        y(),
        list("gamma", &[2.0, 1.0]),
        list("beta", &[0.5, 0.0]),
        list("mean", &[1.0, -1.0]),
        list("variance", &[4.0, 0.25]),
        node("Relu", &["x"], "r"),
        node("BatchNormalization", &["r", "gamma", "beta", "mean", "variance"], "y"),
    ]);
    let found = scores(&bytes, &[3.0, -1.0]);
    assert!((found[0] - 2.5).abs() < 1e-4 && (found[1] - 2.0).abs() < 1e-4, "{found:?}");
}

#[test]
fn operators_values_and_tensors_that_cannot_be_run_are_refused_by_name() {
    let external = |name: &str| field(5, [int(1, 2), int(2, 1), field(8, name), int(14, 1)].concat());
    let big = 1_i64 << 40;
    for (parts, expected) in [
        (vec![x(), y(), node("Hardmax", &["x"], "y")], "operator Hardmax (ai.onnx 17) is not supported"),
        (vec![x(), y(), node("Loop", &["x"], "y")], "operator Loop (ai.onnx 17)"),
        (
            vec![x(), y(), node("RNN", &["x"], "y")],
            "RNN (ai.onnx 17) is not supported: use LSTM, or GRU with",
        ),
        (
            vec![x(), y(), node("GRU", &["x"], "y")],
            "GRU of \"y\" with linear_before_reset=0 is not supported",
        ),
        (
            vec![x(), y(), node_of("ai.onnx.ml", "OneHotEncoder", &["x"], "y", &[])],
            "OneHotEncoder (ai.onnx.ml 0) is not supported: export the network behind the encoding of texts",
        ),
        (
            vec![x(), y(), node_of("", "Cast", &["x"], "y", &[one("to", 10)])],
            "Cast of \"y\" to float16 is not supported",
        ),
        (
            vec![x(), y(), node("Add", &["x", "w"], "y"), int_tensor("w", &[5_000_000_000])],
            "tensor \"w\" with the integer 5000000000, which does not fit into 32 bits, is not supported",
        ),
        (vec![x(), y(), node_of("com.example", "Fancy", &["x"], "y", &[])], "operator Fancy (com.example)"),
        (vec![x(), y(), node("Add", &["x", "w"], "y")], "Add needs value \"w\", which nothing makes"),
        (
            vec![
                x(),
                y(),
                node("Add", &["x", "b"], "a"),
                node("Relu", &["a"], "b"),
                node("Relu", &["b"], "y"),
            ],
            "needs itself",
        ),
        (vec![x(), y(), node("Relu", &["x"], "y"), node("Tanh", &["x"], "y")], "value \"y\" is made twice"),
        (
            vec![x(), y(), node("Add", &["x", "w"], "y"), external("w")],
            "tensor \"w\", whose numbers are in another file",
        ),
        (
            vec![x(), y(), node("Add", &["x", "w"], "y"), tensor("w", 1, &[big, big], &[0; 8])],
            "tensor \"w\" of shape [1099511627776, 1099511627776] and float32 has 8 bytes",
        ),
        (
            vec![x(), y(), node("Add", &["x", "w"], "y"), tensor("w", 10, &[1], &[0; 2])],
            "tensor \"w\" of float16",
        ),
    ] {
        let found = refusal(&parts);
        assert!(found.contains(expected), "{found:?} for {expected:?}");
    }
}

#[test]
fn inputs_and_outputs_that_are_no_rows_are_refused_by_name() {
    for (parts, expected) in [
        (vec![input("x", 8, &[-1, 2]), y(), node("Relu", &["x"], "y")], "input \"x\" of text"),
        (
            vec![input("x", 1, &[8, 2]), y(), node("Relu", &["x"], "y")],
            "input \"x\", which takes exactly 8 rows",
        ),
        (vec![input("x", 1, &[]), y(), node("Relu", &["x"], "y")], "input \"x\" without dimensions"),
        (
            vec![input("x", 1, &[-1, -1]), y(), node("Relu", &["x"], "y")],
            "input \"x\" with an unknown number of columns",
        ),
        (
            vec![input("x", 1, &[-1, 100_000]), y(), node("Relu", &["x"], "y")],
            "columns of the inputs must be at most",
        ),
        (
            vec![x(), output("y", 7, &[-1]), node_of("", "ArgMax", &["x"], "y", &[])],
            "a graph whose only outputs are labels",
        ),
        (vec![x(), output("y", 7, &[2]), node("Shape", &["x"], "y")], "output \"y\" of int64 from Shape"),
        (
            vec![x(), y(), node_of("", "Transpose", &["x"], "y", &[ints("perm", &[1, 0])])],
            "output \"y\" of shape [2, 4] for 4 rows",
        ),
        (
            vec![
                x(),
                y(),
                node_of("", "ReduceMean", &["x"], "m", &[ints("axes", &[0])]),
                node("Sub", &["x", "m"], "y"),
            ],
            "depend on the rows beside it",
        ),
        (vec![x(), y()], "an output needs value \"y\""),
        (vec![x(), node("Relu", &["x"], "y")], "the graph has no outputs"),
    ] {
        let found = refusal(&parts);
        assert!(found.contains(expected), "{found:?} for {expected:?}");
    }
}

#[test]
fn operators_of_old_versions_are_refused() {
    let old = [int(1, 8), field(7, [x(), y()].concat()), field(8, int(2, 7))].concat();
    let found = Graph::read(&old, &Limits::default()).unwrap_err().to_string();
    assert!(found.starts_with("opset 7 is not supported"), "{found}");
}
