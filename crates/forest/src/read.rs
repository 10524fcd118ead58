//! Readers of model files that other libraries wrote. A file is bytes in memory; every byte of it is checked before use.

mod whole;
pub mod format;
pub mod error;
mod archive;
mod foreign;
pub mod detect;
pub mod columns;
pub mod model;
pub mod preprocessing;
pub mod arrange;
mod builder;
pub mod lightgbm;
pub mod xgboost;
mod protobuf;
pub mod onnx;
pub mod skops;
pub mod reader;
pub mod mlflow;
