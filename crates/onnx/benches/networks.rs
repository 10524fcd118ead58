//! How long each network in `tests/golden/models/neural` takes to load, and for 1 and 100 rows, in microseconds.
//! `bench/peers/onnxruntime_networks.py` prints the same columns for onnxruntime.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![expect(clippy::print_stdout, reason = "the result is printed")]

use std::fs;
use std::time::{Duration, Instant};

use canopy_onnx::error::Limits;
use canopy_onnx::graph::Graph;
use canopy_onnx::network::Network;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models/neural");

fn main() {
    let mut files: Vec<_> = fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    println!("{:<32}{:>10}{:>10}{:>10}", "network", "load", "1 row", "100 rows");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let limits = Limits::default();
        let load =
            median(21, || drop(Network::load(&Graph::read(&bytes, &limits).unwrap(), &limits).unwrap()));
        let network = Network::load(&Graph::read(&bytes, &limits).unwrap(), &limits).unwrap();
        let mut times = Vec::new();
        for rows in [1, 100] {
            let values = vec![0.0; rows * network.inputs()];
            let mut scores = vec![0.0; rows * network.outputs()];
            times.push(median(2001, || network.run(&values, &mut scores).unwrap()));
        }
        let name = file.file_stem().unwrap().to_string_lossy();
        println!("{name:<32}{load:>10.1}{:>10.1}{:>10.1}", times[0], times[1]);
    }
}

/// The median of `count` calls, in microseconds.
fn median(count: usize, mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..count).map(time).collect();
    times.sort();
    times[count / 2].as_secs_f64() * 1e6
}
