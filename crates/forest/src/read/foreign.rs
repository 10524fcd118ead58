//! Recognises formats that are not read.

use crate::read::archive::Archive;
use crate::read::error::Problem;
use crate::read::format::Foreign;

/// The format of bytes that begin as those of a foreign format do.
pub(crate) fn detect(bytes: &[u8]) -> Option<Foreign> {
    Some(match bytes {
        [0x89, b'H', b'D', b'F', ..] => Foreign::Hdf5,
        [_, _, _, _, 0, 0, 0, 0, b'{', b'"' | b'}' | b' ', ..] => Foreign::Safetensors,
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Foreign::TensorflowLite,
        [b'C', b'B', b'M', b'1', ..] => Foreign::Catboost,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Foreign::Numpy,
        // Version 1 of the schema, and a graph. ONNX had version 1 in 2017 only.
        [8, 1, 0x12, ..] => Foreign::SavedModel,
        _ if bytes.starts_with(b"binf") || bytes.starts_with(b"CONFIG-offset:") => Foreign::XgboostBinary,
        _ if bytes.starts_with(b"<?xml") || bytes.starts_with(b"<PMML") => Foreign::Xml,
        _ => return None,
    })
}

/// The format of a zip archive; nothing if it is a file of skops. An archive without a readable directory is a zip.
pub(crate) fn detect_zip(bytes: &[u8]) -> Option<Foreign> {
    let Ok(archive) = Archive::open(bytes, 0) else { return Some(Foreign::Zip) };
    let has = |wanted: &str| {
        archive
            .names()
            .any(|name| name.strip_suffix(wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
    };
    if archive.names().any(|name| name == "schema.json") {
        return None;
    }
    Some(if has("MLmodel") {
        Foreign::MlflowArchive
    } else if has("data.pkl") {
        Foreign::Torch
    } else if has("model.weights.h5") {
        Foreign::Keras
    } else if has("saved_model.pb") {
        Foreign::SavedModel
    } else if archive.names().next().is_some()
        && archive.names().all(|name| name.rsplit('.').next() == Some("npy"))
    {
        Foreign::NumpyArchive
    } else {
        Foreign::Zip
    })
}

/// Why bytes of a foreign format are refused.
pub(crate) fn refusal(format: Foreign, bytes: &[u8]) -> Problem {
    match Archive::open(bytes, 0) {
        Err(problem) if format == Foreign::Zip => problem,
        _ => Problem::unsupported(format!("the format {format}"), format.instead()),
    }
}
