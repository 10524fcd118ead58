//! ONNX graphs of neural networks: a file is checked and simplified, and `rten` runs what is left.
//!
//! `rten` limits neither time nor memory, and some damaged files make it hang. It therefore never reads a file as it came:
//! [`graph::Graph::read`] reads the bytes within limits and writes a new file of the parts that it knows.

pub mod error;
mod wire;
mod budget;
mod tensor;
mod node;
mod file;
mod links;
mod operators;
mod rewrite;
mod labels;
mod sizes;
mod integers;
mod fold;
pub mod port;
pub mod graph;
mod first_run;
pub mod network;
