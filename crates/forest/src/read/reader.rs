//! Reads a model file of any supported format.

use crate::read::detect::{Format, detect};
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::model::ImportedModel;
use crate::read::{lightgbm, onnx, skops, xgboost};

/// Reads a model; the format is found by the first bytes.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
    let format = detect(bytes);
    let refuse = |instead| Err(Problem::unsupported(format!("the format {format}"), instead).at(format, ""));
    match format {
        Format::LightGbm => lightgbm::read(bytes, limits),
        Format::XgboostJson => xgboost::read_json(bytes, limits),
        Format::XgboostUbj => xgboost::read_ubj(bytes, limits),
        Format::Onnx => onnx::read(bytes, limits),
        Format::CatboostJson => refuse("save it with format=\"onnx\""),
        Format::Skops => skops::read(bytes, limits),
        Format::Pickle => {
            refuse("a pickle runs code when it is loaded; export the model as docs/models.md shows")
        }
        Format::Unknown => {
            Err(Problem::malformed("the format is not known; docs/models.md has a list").at(format, ""))
        }
    }
}
