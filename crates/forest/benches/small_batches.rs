//! How long a forest takes for a batch of few rows, beside the same rows asked one by one.
//!
//! `cargo bench -p canopy-forest --bench small_batches` prints a line for each number of rows: the least of many
//! repetitions, which says most on a machine that does other work too. `-- ROWS TIMES` answers a batch of ROWS rows
//! TIMES times and prints nothing, to count instructions with `valgrind --tool=callgrind`; `-- single ROWS TIMES` asks
//! the same rows one by one.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]
#![expect(clippy::expect_used, reason = "a measurement that cannot go on says why by panicking")]

use std::hint::black_box;
use std::time::Instant;

use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::data::samples::Samples;
use canopy_forest::train::parameters::RandomForest;

const FEATURES: usize = 20;
const REPETITIONS: usize = 2_000;
const BATCHES: [usize; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17];

fn main() {
    let samples = Samples::synthetic(5_000, FEATURES, 1).expect("samples");
    let forest = RandomForest::params().train(&samples, &|_, _| {}).expect("a forest");
    let packed = CompiledForest::new(&forest);
    let others = Samples::synthetic(64, FEATURES, 2).expect("samples");
    let rows: Vec<f32> = others.values().iter().map(|&value| value as f32).collect();

    // cargo itself adds `--bench`.
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if let [count, times] = numbers[..] {
        let mut probabilities = vec![0.0; 2 * count];
        let answer =
            if std::env::args().any(|argument| argument == "single") { one_by_one } else { together };
        for _ in 0..times {
            answer(&packed, &rows[..FEATURES * count], &mut probabilities);
        }
        return;
    }
    println!("rows  together ns/row  one by one ns/row  ratio");
    for count in BATCHES {
        let rows = &rows[..FEATURES * count];
        let mut probabilities = vec![0.0; 2 * count];
        let (mut batch, mut single) = (u128::MAX, u128::MAX);
        for _ in 0..REPETITIONS {
            let started = Instant::now();
            together(&packed, rows, &mut probabilities);
            let between = Instant::now();
            one_by_one(&packed, rows, &mut probabilities);
            batch = batch.min((between - started).as_nanos());
            single = single.min(between.elapsed().as_nanos());
        }
        let (batch, single) = (batch as f64 / count as f64, single as f64 / count as f64);
        println!("{count:4}  {batch:15.0}  {single:17.0}  {:5.2}", batch / single);
    }
}

fn together(packed: &CompiledForest, rows: &[f32], probabilities: &mut [f64]) {
    packed.predict_rows(black_box(rows), black_box(probabilities)).expect("answers");
}

fn one_by_one(packed: &CompiledForest, rows: &[f32], probabilities: &mut [f64]) {
    for (row, probabilities) in rows.chunks(FEATURES).zip(probabilities.chunks_mut(2)) {
        packed.predict_row(black_box(row), black_box(probabilities)).expect("an answer");
    }
}
