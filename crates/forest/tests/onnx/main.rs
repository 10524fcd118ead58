//! ONNX files: the answers of the libraries that wrote them, models written for these tests, and hostile files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod golden;
mod write;
mod answers;
mod operators;
mod hostile;
