//! Reads a model file of any supported format.

use crate::read::detect::detect;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::ImportedModel;
use crate::read::{foreign, lightgbm, onnx, skops, xgboost};

/// How to export a model that is in a pickle.
const PICKLE: &str = "a pickle runs code when it is loaded; save the model with skops.io.dump(model, \"model.skops\"), or as \
                      docs/models.md shows";

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
        Format::Pickle => refuse(PICKLE),
        Format::Foreign(foreign) => Err(foreign::refusal(foreign, bytes).at(format, "")),
        Format::Mlflow => refuse("give the folder"),
        Format::Unknown => {
            Err(Problem::malformed("the format is not known; docs/models.md has a list").at(format, ""))
        }
    }
}
