//! Reads a model file of any supported format.

use crate::read::detect::detect;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::ImportedModel;
use crate::read::{foreign, lightgbm, onnx, skops, xgboost};

/// How to export a model that is in a pickle.
const PICKLE: &str = "a pickle runs code when it is loaded; save the model with skops.io.dump(model, \"model.skops\"), or as \
                      docs/models.md shows";

/// The first bytes of a file of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What to do with one.
const GUNZIP: &str = "unpack it with gunzip; if it is a pickle of joblib, which runs code when it is loaded, save the model with \
                      skops.io.dump(model, \"model.skops\") instead";
/// The first bytes of texts of UTF-8 and UTF-16 that editors and shells of Windows write.
const BYTE_ORDER_MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

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
        Format::Pickle if bytes.starts_with(&GZIP) => {
            Err(Problem::unsupported("a compressed file", GUNZIP).at(format, ""))
        }
        Format::Pickle => refuse(PICKLE),
        Format::Foreign(foreign) => Err(foreign::refusal(foreign, bytes).at(format, "")),
        Format::Mlflow => refuse("give the folder"),
        Format::Unknown => Err(unknown(bytes).at(format, "")),
    }
}

fn unknown(bytes: &[u8]) -> Problem {
    if bytes.is_empty() {
        return Problem::unsupported("an empty file", "save the model again");
    }
    if BYTE_ORDER_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Problem::unsupported(
            "text with a byte-order mark",
            "keep the file as the library wrote it, or save it as UTF-8 without the mark",
        );
    }
    Problem::malformed("the format is not known; docs/models.md has a list")
}
