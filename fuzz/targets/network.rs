//! Fuzzes the reader of neural networks. A graph that it accepts can be read again as the same graph.
#![no_main]

use canopy_onnx::error::Limits;
use canopy_onnx::graph::{Graph, is_network};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let _ = is_network(bytes, &limits);
    if let Ok(graph) = Graph::read(bytes, &limits) {
        let again = Graph::read(graph.bytes(), &limits).expect("a written graph is read again");
        assert_eq!(again.bytes(), graph.bytes());
        assert_eq!(again.inputs(), graph.inputs());
    }
});
