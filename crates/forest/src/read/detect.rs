//! The format of a model file, by its first bytes.

use crate::read::foreign;
use crate::read::format::Format;

/// How much of a JSON file is searched for the names that tell libraries apart.
const SEARCHED: usize = 4096;

/// The format that the first bytes have. The rest of the file may still be wrong.
#[must_use]
pub fn detect(bytes: &[u8]) -> Format {
    let head = &bytes[..bytes.len().min(SEARCHED)];
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    if let Some(foreign) = foreign::detect(bytes) {
        return Format::Foreign(foreign);
    }
    match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => foreign::detect_zip(bytes).map_or(Format::Skops, Format::Foreign),
        // A pickle of protocol 2 or later, and what joblib writes when it compresses: zlib, gzip, bzip2, xz, LZMA, LZ4.
        [0x80, 2..=8, ..]
        | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]
        | [0x1f, 0x8b, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', ..]
        | [0x5d, 0, 0, ..]
        | [b'Z', b'F', b'0', b'x', ..]
        | [4, 0x22, b'M', 0x18, ..] => Format::Pickle,
        [b'{', b'L' | b'l' | b'I' | b'U' | b'i', rest @ ..] if rest.len() > 1 => Format::XgboostUbj,
        // The version of the format, a number below 128, in field 1 of the message.
        [8, 1..128, ..] => Format::Onnx,
        _ if is_text_pickle(bytes) => Format::Pickle,
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

/// Whether these are the instructions of a pickle of protocol 0 or 1. They end with a point, and begin with a class, which
/// is a `c` and two lines with names, or with a list, a tuple or a dictionary.
fn is_text_pickle(bytes: &[u8]) -> bool {
    let is_name = |line: &[u8]| {
        !line.is_empty() && line.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
    };
    let mut lines = bytes.strip_prefix(b"c").unwrap_or_default().split(|byte| *byte == b'\n');
    let is_class = matches!((lines.next(), lines.next(), lines.next()), (Some(a), Some(b), Some(_)) if is_name(a) && is_name(b));
    let starts: [&[u8]; 7] = [b"(dp", b"(lp", b"(c", b"(i", b"}q", b"]q", b")q"];
    bytes.trim_ascii_end().ends_with(b".")
        && (is_class || starts.iter().any(|start| bytes.starts_with(start)))
}

fn is_json(head: &[u8]) -> bool {
    head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::format::Foreign;

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
            (b"PK\x03\x04", Format::Foreign(Foreign::Zip)),
            (b"\x89HDF\r\n\x1a\n", Format::Foreign(Foreign::Hdf5)),
            (b"\x08\x01\0\0\0\0\0\0{\"a\":", Format::Foreign(Foreign::Safetensors)),
            (b"\x1c\0\0\0TFL3", Format::Foreign(Foreign::TensorflowLite)),
            (b"CBM1\x10", Format::Foreign(Foreign::Catboost)),
            (b"\x93NUMPY\x01", Format::Foreign(Foreign::Numpy)),
            (b"\x08\x01\x12\xff\x03", Format::Foreign(Foreign::SavedModel)),
            (b"binf\0", Format::Foreign(Foreign::XgboostBinary)),
            (b"<?xml version=\"1.0\"?><PMML>", Format::Foreign(Foreign::Xml)),
            (b"ccopy_reg\n_reconstructor\np0\n(csklearn.tree\nTree\ntR.", Format::Pickle),
            (b"(dp0\nVa\np1\nI1\ns.\n", Format::Pickle),
            (b"}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", Format::Pickle),
            (b"case\nclosed", Format::Unknown),
            (b"\x80\x02}q", Format::Pickle),
            (b"\x80\x05\x95", Format::Pickle),
            (b"BZh91AY", Format::Pickle),
            (b"\xfd7zXZ\0", Format::Pickle),
            (b"\x5d\0\0\x80", Format::Pickle),
            (b"\x04\x22M\x18", Format::Pickle),
            (b"\x1f\x8b\x08", Format::Pickle),
            (b"\x80\x04\x95", Format::Pickle),
            (b"\x78\x9c\x00", Format::Pickle),
            (b"", Format::Unknown),
            (b"{", Format::Unknown),
        ] {
            assert_eq!(detect(bytes), format, "{bytes:?}");
        }
    }
}
