//! The format of a model file, by its first bytes.

use std::fmt;

/// A format of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `Booster.save_model` of `LightGBM`.
    LightGbm,
    /// `save_model("….json")` of `XGBoost`.
    XgboostJson,
    /// `save_model("….ubj")` of `XGBoost`.
    XgboostUbj,
    /// `save_model(format="json")` of `CatBoost`.
    CatboostJson,
    /// ONNX, from any library.
    Onnx,
    /// `skops.io.dump`: scikit-learn without pickle.
    Skops,
    /// Pickle or joblib. It runs code when it is loaded, so it is never read.
    Pickle,
    /// Not known.
    Unknown,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LightGbm => "LightGBM text",
            Self::XgboostJson => "XGBoost JSON",
            Self::XgboostUbj => "XGBoost UBJ",
            Self::CatboostJson => "CatBoost JSON",
            Self::Onnx => "ONNX",
            Self::Skops => "skops",
            Self::Pickle => "pickle",
            Self::Unknown => "unknown",
        })
    }
}

/// How much of a JSON file is searched for the names that tell libraries apart.
const SEARCHED: usize = 4096;

/// The format that the first bytes have. The rest of the file may still be wrong.
#[must_use]
pub fn detect(bytes: &[u8]) -> Format {
    let head = &bytes[..bytes.len().min(SEARCHED)];
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    match bytes {
        [b'P', b'K', 3, 4, ..] => Format::Skops,
        // A pickle of protocol 2 or later, and what joblib writes when it compresses: zlib, gzip, bzip2, xz, LZ4.
        [0x80, 2..=5, ..]
        | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]
        | [0x1f, 0x8b, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', ..]
        | [4, 0x22, b'M', 0x18, ..] => Format::Pickle,
        [b'{', b'L' | b'l' | b'I' | b'U' | b'i', rest @ ..] if rest.len() > 1 => Format::XgboostUbj,
        // The version of the format, a number below 128, in field 1 of the message.
        [8, 1..128, ..] => Format::Onnx,
        _ if is_lightgbm(head) => Format::LightGbm,
        _ if !is_json(head) => Format::Unknown,
        _ if has(b"\"learner\"") || has(b"\"version\"") => Format::XgboostJson,
        _ if has(b"\"oblivious_trees\"") || has(b"\"model_info\"") || has(b"\"features_info\"") => {
            Format::CatboostJson
        }
        _ => Format::Unknown,
    }
}

fn is_lightgbm(head: &[u8]) -> bool {
    head.starts_with(b"tree\n") || head.starts_with(b"tree\r\n")
}

fn is_json(head: &[u8]) -> bool {
    head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart_by_their_first_bytes() {
        for (bytes, format) in [
            (&b"tree\nversion=v4\n"[..], Format::LightGbm),
            (b"tree\r\nversion=v4\r\n", Format::LightGbm),
            (b"trees and more", Format::Unknown),
            (b"{\"learner\":{}}", Format::XgboostJson),
            (b" \n{ \"version\": [3,2,0], \"learner\": {}}", Format::XgboostJson),
            (b"{L\0\0\0\0\0\0\0\x07learner{", Format::XgboostUbj),
            (b"{\"features_info\":{}}", Format::CatboostJson),
            (b"{\"a\":1}", Format::Unknown),
            (b"\x08\x08\x12\x07skl2onnx", Format::Onnx),
            (b"PK\x03\x04", Format::Skops),
            (b"\x80\x04\x95", Format::Pickle),
            (b"\x78\x9c\x00", Format::Pickle),
            (b"", Format::Unknown),
            (b"{", Format::Unknown),
        ] {
            assert_eq!(detect(bytes), format, "{bytes:?}");
        }
    }
}
