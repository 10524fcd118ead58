//! ONNX files: the answers of the libraries that wrote them, models written for these tests, and hostile files.

mod golden;
mod write;
mod answers;
mod operators;
mod hostile;
