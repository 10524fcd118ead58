//! Damaged and malicious files end in a refusal: no panic, no endless loop, no more memory than the file explains.

use std::fs;
use std::time::Duration;

use canopy_onnx::error::{GraphError, Limits};
use canopy_onnx::graph::{Graph, is_network};
use canopy_onnx::network::Network;
use proptest::prelude::*;

use crate::vectors::{file, names};
use crate::write::{
    field, float_tensor, input, int, int_tensor, ints, model, node, node_of, one, output, text,
};

fn read(bytes: &[u8]) -> Result<Graph, GraphError> {
    Graph::read(bytes, &Limits::default())
}

#[test]
fn every_cut_of_a_file_is_refused_or_read() {
    let bytes = file("skl_mlp_binary");
    for end in 0..bytes.len() {
        if let Ok(graph) = read(&bytes[..end]) {
            assert!(graph.numbers() < 1000, "cut at {end}");
        }
    }
}

#[test]
fn a_length_that_becomes_negative_is_refused() {
    let error = read(b"\x08\x08\x3a\xf6\xff\xff\xff\xff\xff\xff\xff\xff\x01").unwrap_err();
    assert!(error.to_string().starts_with("a field has 18446744073709551606 bytes"), "{error}");
}

#[test]
fn deep_nesting_and_long_chains_are_limited() {
    let mut nested = field(1, "x");
    for _ in 0..10_000 {
        nested = field(6, field(1, field(5, &nested)));
    }
    assert!(read(&model(&[nested])).is_err());
    let names: Vec<_> = (0..30_000).map(|index| format!("v{index}")).collect();
    let mut parts = vec![input("v0", 1, &[-1, 1]), output(&names[29_999], 1, &[-1, 1])];
    parts.extend(names.windows(2).map(|pair| node("Relu", &[&pair[0]], &pair[1])));
    let error = read(&model(&parts)).unwrap_err();
    assert_eq!(error.to_string(), "operators must be at most 20000, got 29999");
}

#[test]
fn a_long_chain_within_the_limit_runs() {
    let names: Vec<_> = (0..5_000).map(|index| format!("v{index}")).collect();
    let mut parts = vec![input("v0", 1, &[-1, 1]), output(&names[4_999], 1, &[-1, 1])];
    parts.extend(names.windows(2).map(|pair| node("Relu", &[&pair[0]], &pair[1])));
    let graph = read(&model(&parts)).unwrap();
    let network = Network::load(&graph, &Limits::default()).unwrap();
    let mut scores = [0.0];
    network.run(&[3.0], &mut scores).unwrap();
    assert_eq!(scores, [3.0]);
}

#[test]
fn counts_of_messages_and_numbers_are_limited() {
    let many = vec![node("Relu", &[], ""); 100_001].concat();
    assert!(read(&model(&[many])).unwrap_err().to_string().contains("must be at most 200000"));
    let limits = Limits { numbers: 10, ..Limits::default() };
    let error = Graph::read(&file("skl_mlp_binary"), &limits).unwrap_err();
    assert!(error.to_string().starts_with("numbers in tensors and attributes must be at most 10"), "{error}");
    let dimensions = field(5, [int(1, 1).repeat(9), field(8, "w")].concat());
    assert!(read(&model(&[dimensions])).unwrap_err().to_string().starts_with("dimensions of a tensor"));
}

#[test]
fn a_load_beyond_its_time_is_given_up() {
    let graph = read(&file("torch_tabtransformer_legacy")).unwrap();
    let limits = Limits { load: Duration::ZERO, ..Limits::default() };
    let error = Network::load(&graph, &limits).err().unwrap();
    assert_eq!(error, GraphError::TooSlow(Duration::ZERO));
}

/// A graph of one row of two numbers, whose scores need the value `m` of `parts`.
fn needs_m(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut all = vec![
        input("x", 1, &[-1, 2]),
        output("y", 1, &[-1, 2]),
        node("ReduceMax", &["m"], "s"),
        node("Add", &["x", "s"], "y"),
        // A number that no computation before the first row gives.
        node("ReduceMean", &["x"], "mean"),
        node("Shape", &["x"], "shape"),
    ];
    all.extend_from_slice(parts);
    model(&all)
}

const LONG: i64 = 30_000;

fn long(name: &str, shape: &[i64]) -> Vec<u8> {
    float_tensor(name, shape, &vec![1.0; 30_000])
}

/// An operator that makes `m`, and the parts of a graph for it.
type Case = (&'static str, Vec<Vec<u8>>);

/// Products of two long constants.
fn products() -> Vec<Case> {
    vec![
        ("Mul", vec![long("a", &[LONG, 1]), long("b", &[1, LONG]), node("Mul", &["a", "b"], "m")]),
        (
            "Mul",
            vec![
                long("a", &[LONG, 1]),
                long("b", &[1, LONG]),
                node("Mul", &["a", "mean"], "c"),
                node("Mul", &["c", "b"], "m"),
            ],
        ),
        ("MatMul", vec![long("a", &[LONG, 1]), long("b", &[1, LONG]), node("MatMul", &["a", "b"], "m")]),
        ("Gemm", vec![long("a", &[LONG, 1]), long("b", &[1, LONG]), node("Gemm", &["a", "b"], "m")]),
        (
            "Einsum",
            vec![
                long("a", &[LONG]),
                long("b", &[LONG]),
                node_of("", "Einsum", &["a", "b"], "m", &[text("equation", "i,j->ij")]),
            ],
        ),
    ]
}

/// Sizes that are constants, or computed from the shape of a row.
fn computed_sizes() -> Vec<Case> {
    let big = 1 << 30;
    let reshaped = |by: &[u8]| [node("Mul", &["shape", "by"], "size"), by.to_vec()].concat();
    vec![
        ("ConstantOfShape", vec![int_tensor("c", &[big, 2]), node("ConstantOfShape", &["c"], "m")]),
        ("ConstantOfShape", vec![int_tensor("c", &[0, big]), node("ConstantOfShape", &["c"], "m")]),
        (
            "ConstantOfShape",
            vec![reshaped(&int_tensor("by", &[9_000, 9_000])), node("ConstantOfShape", &["size"], "m")],
        ),
        (
            "Expand",
            vec![reshaped(&int_tensor("by", &[9_000, 9_000])), node("Expand", &["mean", "size"], "m")],
        ),
        ("Tile", vec![reshaped(&int_tensor("by", &[9_000, 9_000])), node("Tile", &["x", "size"], "m")]),
        (
            "Range",
            vec![
                float_tensor("from", &[], &[0.0]),
                float_tensor("to", &[], &[1e12]),
                float_tensor("step", &[], &[0.5]),
                node("Range", &["from", "to", "step"], "m"),
            ],
        ),
        (
            "OneHot",
            vec![
                int_tensor("depth", &[1 << 30]),
                float_tensor("values", &[2], &[0.0, 1.0]),
                node("OneHot", &["shape", "depth", "values"], "m"),
            ],
        ),
        ("Pad", vec![int_tensor("pads", &[9_000; 4]), node("Pad", &["x", "pads"], "m")]),
    ]
}

/// Places of a long constant.
fn places() -> Vec<Case> {
    vec![
        (
            "Gather",
            vec![long("a", &[1, LONG]), int_tensor("rows", &[0; 3_000]), node("Gather", &["a", "rows"], "m")],
        ),
        (
            "Conv",
            vec![
                long("a", &[1, 1, LONG]),
                long("w", &[LONG, 1, 1]),
                node_of("", "Conv", &["a", "w"], "m", &[ints("pads", &[0, 0])]),
            ],
        ),
        (
            "ConvTranspose",
            vec![
                long("a", &[1, 1, LONG]),
                float_tensor("w", &[1, 1, 1], &[1.0]),
                node_of("", "ConvTranspose", &["a", "w"], "m", &[ints("strides", &[60_000])]),
            ],
        ),
    ]
}

#[test]
fn an_operator_that_would_make_too_much_is_named_and_does_not_run() {
    let cases = [products(), computed_sizes(), places()].concat();
    for (operator, parts) in cases {
        let graph = read(&needs_m(&parts)).unwrap();
        let error = Network::load(&graph, &Limits::default()).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("{operator} ran"));
        assert!(error.starts_with(&format!("the operators up to {operator} of \"m\" would make")), "{error}");
        assert!(error.ends_with("they may make 33554432 in all"), "{error}");
    }
}

#[test]
fn operators_that_make_too_much_only_together_are_refused() {
    let mut parts =
        vec![float_tensor("a", &[2_000, 1], &[1.0; 2_000]), float_tensor("b", &[1, 2_000], &[1.0; 2_000])];
    let names: Vec<_> = (0..20).map(|index| format!("m{index}")).collect();
    parts.extend(names.iter().map(|name| node("Mul", &["a", "b"], name)));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    parts.push(node("Sum", &names, "m"));
    let graph = read(&needs_m(&parts)).unwrap();
    let error = Network::load(&graph, &Limits::default()).err().unwrap().to_string();
    assert!(error.starts_with("the operators up to Mul of \"m8\" would make 36000"), "{error}");
}

#[test]
fn a_row_that_is_doubled_again_and_again_is_refused_before_it_fills_the_memory() {
    let names: Vec<_> = (0..40).map(|index| format!("c{index}")).collect();
    let mut parts = vec![input("c0", 1, &[-1, 4]), output("y", 1, &[-1, 1])];
    let double = |pair: &[String]| node_of("", "Concat", &[&pair[0], &pair[0]], &pair[1], &[one("axis", 1)]);
    parts.extend(names.windows(2).map(double));
    parts.push(node_of("", "ReduceMax", &["c39"], "y", &[ints("axes", &[1])]));
    let graph = read(&model(&parts)).unwrap();
    let error = Network::load(&graph, &Limits::default()).err().unwrap().to_string();
    assert!(error.starts_with("the operators up to Concat of \"c21\" would make 67108832"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_are_refused_or_run(
        which in 0_usize..28,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = file(&names()[which]);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(graph) = read(&bytes) {
            let again = read(graph.bytes()).unwrap();
            prop_assert_eq!(again.bytes(), graph.bytes());
            let limits = Limits { load: Duration::from_secs(10), ..Limits::default() };
            let error = Network::load(&graph, &limits).err();
            let is_slow = matches!(error, Some(GraphError::TooSlow(_)));
            prop_assert!(!is_slow, "a flipped byte makes the load endless");
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn trees_are_recognised_without_decoding_their_numbers() {
    let forest =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models/onnx/skl_rf_classifier.onnx");
    let (trees, network) = (fs::read(forest).unwrap(), file("skl_mlp_binary"));
    let limits = Limits { numbers: 0, ..Limits::default() };
    assert_eq!(is_network(&trees, &limits), Ok(false));
    assert!(is_network(&network, &limits).is_err());
    assert_eq!(is_network(&network, &Limits::default()), Ok(true));
}
