//! Damaged and malicious files. A reader gives an error within its limits; it does not panic, hang or allocate without bound.

use std::fmt::Write as _;

use canopy_forest::read::error::{Limits, Problem};
use canopy_forest::read::reader::read;
use canopy_forest::read::{lightgbm, xgboost};
use proptest::prelude::*;

use crate::check::zip;
use crate::golden::file;

const FILES: [&str; 8] = [
    "boosted/lightgbm_pandas.txt",
    "boosted/lightgbm_zero_as_missing.txt",
    "library/lgb_categorical.txt",
    "library/lgb_multiclass.txt",
    "boosted/xgboost_pandas.json",
    "boosted/xgboost_pandas.ubj",
    "library/xgb_dart.ubj",
    "library/xgb_v17_binary.json",
];

/// Small enough that a file which is refused only at a limit costs little.
const LIMITS: Limits = Limits { bytes: 1 << 20, trees: 1000, nodes: 100_000, numbers: 1 << 20, depth: 16 };

fn error(bytes: &[u8]) -> String {
    read(bytes, &LIMITS).unwrap_err().to_string()
}

#[test]
fn a_truncated_file_is_refused() {
    for name in FILES {
        let bytes = file(name);
        // What follows the trees of a LightGBM text does not change the model.
        let end = bytes.windows(12).position(|window| window == b"end of trees").unwrap_or(bytes.len() - 1);
        for length in (0..end).step_by(7).chain([end]) {
            read(&bytes[..length], &LIMITS).expect_err(name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_file_gives_a_model_or_an_error(
        index in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of((any::<prop::sample::Index>(), 1..200_usize)),
    ) {
        let mut bytes = file(FILES[index]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some((at, length)) = cut {
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.drain(at..end);
        }
        let results = [
            lightgbm::read(&bytes, &LIMITS),
            xgboost::read_json(&bytes, &LIMITS),
            xgboost::read_ubj(&bytes, &LIMITS),
        ];
        for model in results.into_iter().flatten() {
            let row = vec![0.5; model.inputs.len()];
            prop_assert_eq!(model.scores(&row).len(), model.model.scores());
        }
    }

    #[test]
    fn a_changed_number_gives_a_model_or_an_error(
        index in 0..4_usize,
        which in any::<prop::sample::Index>(),
        number in prop::sample::select(vec!["-1", "0", "1", "7", "4294967295", "18446744073709551615", "1e308", "nan", "-inf", ""]),
    ) {
        let text = String::from_utf8(file(FILES[index])).unwrap();
        let is_number = |word: &str| word.parse::<f64>().is_ok();
        let mut words: Vec<_> = text.split_inclusive([' ', '=', '\n']).map(str::to_owned).collect();
        let numbers: Vec<_> = (0..words.len()).filter(|at| is_number(words[*at].trim())).collect();
        let at = numbers[which.index(numbers.len())];
        let end = words[at].trim_start_matches(|c: char| !c.is_whitespace()).to_owned();
        words[at] = format!("{number}{end}");
        if let Ok(model) = read(words.concat().as_bytes(), &LIMITS) {
            let row = vec![0.5; model.inputs.len()];
            prop_assert_eq!(model.outputs(&row).len(), model.outputs(&vec![-1e9; row.len()]).len());
        }
    }
}

fn header(per_round: usize, last_feature: &str) -> String {
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration={per_round}\nmax_feature_idx={last_feature}\n\
         objective=regression\nfeature_names=a\nfeature_infos=[0:1]\n\n"
    )
}

/// A tree of `LightGBM` with two splits and three leaves.
fn tree(left: &str, right: &str, decisions: &str, categories: &str) -> String {
    format!(
        "Tree=0\nnum_leaves=3\nsplit_feature=0 0\nthreshold=0 0\ndecision_type={decisions}\nleft_child={left}\n\
         right_child={right}\nleaf_value=1 2 3\n{categories}\n\nend of trees\n"
    )
}

#[test]
fn lightgbm_trees_with_cycles_and_counts_that_lie_are_refused_with_their_place() {
    let file =
        |left, right, decisions, categories| header(1, "0") + &tree(left, right, decisions, categories);
    let good = file("1 -1", "-3 -2", "2 2", "num_cat=0");
    read(good.as_bytes(), &LIMITS).unwrap();
    let sets = "num_cat=2\ncat_boundaries=0 2 1\ncat_threshold=7";
    for (text, expected) in [
        (file("0 -1", "-3 -2", "2 2", "num_cat=0"), "tree 0: node 0 is reached by two paths"),
        (file("1 0", "-3 -2", "2 2", "num_cat=0"), "tree 0: node 0 is reached by two paths"),
        (file("1 -1", "-1 -2", "2 2", "num_cat=0"), "tree 0: node 2 is reached by two paths"),
        (
            file("1 -1", "-4 -2", "2 2", "num_cat=0"),
            "tree 0: node 5 is referred to, but the tree has 5 nodes",
        ),
        (file("1 2", "-3 -2", "2 2", "num_cat=0"), "tree 0: child 2 does not exist"),
        (file("1 -1", "-3 -2", "2 12", "num_cat=0"), "tree 0: `decision_type` has 12, which does not exist"),
        (file("1 -1", "-3 -2", "1 2", "num_cat=0"), "tree 0: category set 0 is used, but there are 0"),
        (file("1 -1", "-3 -2", "1 2", sets), "tree 0: `cat_boundaries` must not decrease"),
        (
            file("1 -1", "-3 -2", "1 2", "num_cat=18446744073709551615\ncat_boundaries=0"),
            "tree 0: `cat_boundaries` must have 18446744073709551615 numbers, got 1",
        ),
        (good.replace("num_leaves=3", "num_leaves=18446744073709551615"), "tree 0: `leaf_value` must have"),
        (good.replace("num_leaves=3", "num_leaves=0"), "tree 0: `num_leaves` must be at least 1, got 0"),
        (good.replace("feature=0 0", "feature=0 9"), "tree 0: feature 9 is split, but there are 1"),
        (
            good.replace("value=1 2 3", "value=1 2 nan"),
            "trees: its trees are not usable: number 2 of the leaves",
        ),
        (
            good.replace("max_feature_idx=0", "max_feature_idx=99999999999"),
            "header: inputs must be at most 1048576",
        ),
        (good.replace("iteration=1", "iteration=99999999999"), "header: outputs must be at most 65536"),
        (
            good.replace("iteration=1", "iteration=2"),
            "header: objective `regression` does not fit 2 trees per round",
        ),
    ] {
        let found = error(text.as_bytes());
        assert!(found.starts_with(&format!("LightGBM text file, {expected}")), "{found}");
    }
}

#[test]
fn more_trees_than_the_limit_are_refused() {
    let mut text = header(1, "0");
    for _ in 0..1_000_000 {
        text += "Tree=0\nnum_leaves=1\nleaf_value=1\nnum_cat=0\nsplit_feature=\nthreshold=\ndecision_type=\nleft_child=\nright_child=\n\n";
    }
    text += "end of trees\n";
    let limits = Limits { bytes: text.len(), ..Limits::default() };
    let error = read(text.as_bytes(), &limits).unwrap_err();
    assert_eq!(error.problem, Problem::Limit { what: "trees", found: 100_001, max: 100_000 });
    assert_eq!(
        self::error(text.as_bytes()),
        format!("LightGBM text file: bytes must be at most 1048576, got {}", text.len())
    );
}

/// A file of `XGBoost` with one tree of these children, and other members of the tree.
fn xgboost_file(left: &str, right: &str, more: &str) -> String {
    format!(
        r#"{{"learner":{{"gradient_booster":{{"name":"gbtree","model":{{"tree_info":[0],"trees":[{{"tree_param":{{}},
        "left_children":{left},"right_children":{right},"split_indices":[0,0,0],"split_conditions":[1,2,3],
        "default_left":[0,true,0]{more}}}]}}}},"learner_model_param":{{"base_score":0.5,"num_feature":"1"}},
        "objective":{{"name":"reg:squarederror"}}}}}}"#
    )
}

#[test]
fn xgboost_trees_with_cycles_and_lists_that_do_not_fit_are_refused_with_their_place() {
    let (left, right) = ("[1,-1,-1]", "[2,-1,-1]");
    let good = xgboost_file(left, right, "");
    assert_eq!(read(good.as_bytes(), &LIMITS).unwrap().outputs(&[0.0]), [2.5]);
    let sets = |nodes: &str, starts: &str, sizes: &str, listed: &str| {
        let lists = format!(
            r#","split_type":[1,0,0],"categories_nodes":{nodes},"categories_segments":{starts},"categories_sizes":{sizes},"categories":{listed}"#
        );
        xgboost_file(left, right, &lists)
    };
    assert_eq!(read(sets("[0]", "[0]", "[1]", "[5]").as_bytes(), &LIMITS).unwrap().outputs(&[5.0]), [3.5]);
    for (text, expected) in [
        (xgboost_file("[0,-1,-1]", right, ""), ", tree 0: node 0 is reached by two paths"),
        (xgboost_file("[2,-1,-1]", right, ""), ", tree 0: node 2 is reached by two paths"),
        (xgboost_file("[3,-1,-1]", right, ""), ", tree 0: node 3 is referred to, but the tree has 3 nodes"),
        (xgboost_file(left, "[-5,-1,-1]", ""), ", tree 0: node 0 has child -5"),
        (xgboost_file(left, "[2]", ""), ", tree 0: `right_children` must have 3 entries, got 1"),
        (xgboost_file("[]", "[]", ""), ", tree 0: `split_indices` must have 0 entries, got 3"),
        (sets("[1]", "[0]", "[1]", "[5]"), ", tree 0: node 0 splits by categories, but has no set of them"),
        (sets("[0]", "[0]", "[9]", "[5]"), ", tree 0: its category sets are wrong: one ends after the list"),
        (
            sets("[0]", "[0]", "[1]", "[4000000000]"),
            ", tree 0: categories must be at most 1048575, got 4000000000",
        ),
        (
            sets("[0,1]", "[0,0]", "[1,1]", "[5]"),
            ", tree 0: its category sets are wrong: each must start where",
        ),
        (
            good.replace("[0],\"trees\"", "[7],\"trees\""),
            ", tree 0: a tree is for output 7, but there are 1 outputs",
        ),
        (
            good.replace("[0],\"trees\"", "[],\"trees\""),
            ", gradient_booster: `tree_info` must have 1 numbers, got 0",
        ),
        (good.replace("[1,2,3]", "[1e39,2,3]"), ": number out of range"),
        (
            good.replace(":\"1\"", ":\"1e18\""),
            ", learner: inputs must be at most 1048576, got 1000000000000000000",
        ),
        (good.replace(":0.5", ":[1,2]"), ", base_score: it must have 1 or 1 numbers, got 2"),
        (good.replace("squarederror", "gamma").replace(":0.5", ":\"-1\""), ", base_score: -1 is outside"),
        (good.replace("squarederror", "mine"), ", objective: objective `reg:mine` is not supported"),
        (good.replace("gbtree", "forest"), ", gradient_booster: booster `forest` is not supported"),
        ("{\"learner\":".to_owned() + &"[".repeat(100_000), ": invalid type: sequence"),
        ("{\"learner\":{\"x\":".to_owned() + &"[".repeat(100_000), ": EOF while parsing a list"),
    ] {
        let found = error(text.as_bytes());
        assert!(found.starts_with(&format!("XGBoost JSON file{expected}")), "{found}");
    }
}

#[test]
fn sets_of_far_categories_are_refused_before_they_fill_the_memory() {
    let count = 5000;
    let list = |item: &dyn Fn(usize) -> usize| format!("{:?}", (0..count).map(item).collect::<Vec<_>>());
    let mut lists = String::new();
    for (name, item) in [
        ("categories_nodes", &(|index| index) as &dyn Fn(usize) -> usize),
        ("categories_segments", &|index| index),
        ("categories_sizes", &|_| 1),
        ("categories", &|_| 1_048_575),
    ] {
        write!(lists, r#","{name}":{}"#, list(item)).unwrap();
    }
    let found = error(xgboost_file("[1,-1,-1]", "[2,-1,-1]", &lists).as_bytes());
    assert_eq!(
        found,
        "XGBoost JSON file, tree 0: words of category sets must be at most 1048576, got 1064960"
    );
}

#[test]
fn a_binary_file_that_nests_deeply_or_lies_about_a_length_is_refused() {
    let deep = [&b"{i\x07learner{i\x01x"[..], &b"[".repeat(100_000)].concat();
    assert_eq!(
        error(&deep),
        "XGBoost UBJ file: values are nested too deeply, at byte 29; the file is damaged or was not written by this library"
    );
    let long = b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x01x[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff";
    assert!(error(long).contains("is negative or beyond the file's end"), "{}", error(long));
}

#[test]
fn files_that_are_not_models_are_refused_with_what_to_do() {
    let torch = zip(&[(b"model/data.pkl", b"\x80\x02"), (b"model/version", b"3")]);
    let keras = zip(&[(b"config.json", b"{}"), (b"model.weights.h5", b"")]);
    let arrays = zip(&[(b"a.npy", b""), (b"b.npy", b"")]);
    let folder = zip(&[(b"model/MLmodel", b"")]);
    let other = zip(&[(b"a.txt", b"")]);
    for (bytes, format, instead) in [
        (
            &b"\x80\x04\x95"[..],
            "pickle",
            "a pickle runs code when it is loaded; save the model with skops.io.dump(model, \"model.skops\"), or as docs/models.md shows",
        ),
        (&torch, "PyTorch", "export the model with torch.onnx.export(model, example, \"model.onnx\")"),
        (
            &keras,
            "Keras",
            "load the model in Keras and export it with model.export(\"model.onnx\", format=\"onnx\")",
        ),
        (
            b"\x89HDF\r\n\x1a\n",
            "HDF5",
            "load the model in Keras and export it with model.export(\"model.onnx\", format=\"onnx\")",
        ),
        (&arrays, "NumPy archive", "it has arrays without a model; save the model itself"),
        (&folder, "zipped MLflow folder", "unpack it and give the folder"),
        (&other, "zip", "unpack it and give the model file"),
        (b"CBM1", "CatBoost binary", "save the model with save_model(\"model.onnx\", format=\"onnx\")"),
        (
            b"\x08\x01\x12\x05",
            "TensorFlow SavedModel",
            "convert the model with python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
        ),
        (
            b"\x0a\0\0\0\0\0\0\0{\"a\":{}}",
            "safetensors",
            "it has tensors without a model; export the model with torch.onnx.export",
        ),
    ] {
        assert_eq!(error(bytes), format!("{format} file: the format {format} is not supported: {instead}"));
    }
    for (bytes, expected) in [
        (&b""[..], "an empty file is not supported: save the model again"),
        (b"\xef\xbb\xbftree\nversion=v4\n", "text with a byte-order mark is not supported: keep the file"),
        (b"\xff\xfet\0r\0", "text with a byte-order mark is not supported: keep the file"),
        (b"\x1f\x8b\x08", "a compressed file is not supported: unpack it with gunzip"),
        (b"\x80\x04\x95", "the format pickle is not supported: a pickle runs code"),
    ] {
        let found = error(bytes);
        assert!(found.contains(expected), "{found}");
    }
    assert_eq!(
        error(b"hello"),
        "unknown file: the format is not known; docs/models.md has a list; the file is damaged or was not written by this library"
    );
}
