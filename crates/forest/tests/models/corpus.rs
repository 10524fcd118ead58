//! Runs the kept corpus of each fuzz target once.

use std::fs;
use std::path::Path;

use crate::check::check;

#[test]
fn every_file_of_the_corpus_gives_a_model_that_answers_or_an_error() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus"));
    let mut targets = Vec::new();
    for target in fs::read_dir(corpus).unwrap() {
        let target = target.unwrap();
        let name = target.file_name().into_string().unwrap();
        for file in fs::read_dir(target.path()).unwrap() {
            check(&name, &fs::read(file.unwrap().path()).unwrap());
        }
        targets.push(name);
    }
    targets.sort();
    assert_eq!(targets, ["detect", "lightgbm", "mlflow", "onnx", "skops", "xgboost_json", "xgboost_ubj"]);
}
