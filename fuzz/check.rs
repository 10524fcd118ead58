//! What every reader must do with any bytes: give an error, or a model that answers, within the limits.

use std::collections::BTreeMap;

use canopy_forest::read::error::{Limits, ReadError};
use canopy_forest::read::model::ImportedModel;
use canopy_forest::read::{lightgbm, mlflow, onnx, reader, skops, xgboost};

/// Small, so that one run is short.
const LIMITS: Limits = Limits { bytes: 1 << 20, trees: 1000, nodes: 100_000, numbers: 1 << 20, depth: 32 };

/// An input for skops that begins so has the entries of an archive, each with the length of its name and its own before
/// it, in 2 and 4 bytes. An archive as it is would be refused for its checksums after most changes.
pub(crate) const ENTRIES: &[u8] = b"ENTRIES";

/// Reads the bytes with a reader, by its name, and asks the model for answers.
pub(crate) fn check(target: &str, bytes: &[u8]) {
    let Ok(model) = read(target, bytes) else { return };
    for value in [0.0, -1.5, 3.0, 1e30, f64::NAN] {
        let row = vec![value; model.inputs.len()];
        assert_eq!(model.scores(&row).len(), model.model.scores());
        assert!(!model.outputs(&row).is_empty());
    }
}

fn read(target: &str, bytes: &[u8]) -> Result<ImportedModel, ReadError> {
    match target {
        "lightgbm" => lightgbm::read(bytes, &LIMITS),
        "xgboost_json" => xgboost::read_json(bytes, &LIMITS),
        "xgboost_ubj" => xgboost::read_ubj(bytes, &LIMITS),
        "onnx" => onnx::read(bytes, &LIMITS),
        "skops" => match bytes.strip_prefix(ENTRIES) {
            Some(entries) => skops::read(&archive(entries), &LIMITS),
            None => skops::read(bytes, &LIMITS),
        },
        "mlflow" => {
            // The file that describes the folder, a zero, and the model's file.
            let mut parts = bytes.splitn(2, |byte| *byte == 0);
            let manifest = parts.next().unwrap_or_default().to_vec();
            let file = mlflow::Manifest::parse(&manifest)?.file().to_owned();
            let model = parts.next().unwrap_or_default().to_vec();
            let files = BTreeMap::from([(mlflow::MANIFEST.to_owned(), manifest), (file, model)]);
            mlflow::read(&files, &LIMITS)
        }
        _ => reader::read(bytes, &LIMITS),
    }
}

/// An archive of the entries in these bytes.
fn archive(mut bytes: &[u8]) -> Vec<u8> {
    let mut entries = Vec::new();
    while let Some((name, content)) = entry(&mut bytes) {
        entries.push((name, content));
    }
    zip(&entries)
}

fn entry<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (lengths, rest) = bytes.split_first_chunk::<6>()?;
    let (name, content) = lengths.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*name).into())?;
    let (content, rest) = rest.split_at_checked(u32::from_le_bytes(content.try_into().ok()?) as usize)?;
    *bytes = rest;
    Some((name, content))
}

/// A zip archive of stored entries.
pub(crate) fn zip(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in entries {
        let offset = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
        let name_length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes();
        let checksum = checksum(content).to_le_bytes();
        // The version, flags, method, time and date; then the checksum, the sizes, and the lengths of name and extra.
        let head = [20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let both = [&head[..], &checksum, &length, &length, &name_length, &[0, 0]].concat();
        directory.extend([b"PK\x01\x02\x14\0", &both[..], &[0; 10], &offset.to_le_bytes(), name].concat());
        bytes.extend([b"PK\x03\x04", &both[..], name, content].concat());
    }
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX).to_le_bytes();
    let [start, size] =
        [bytes.len(), directory.len()].map(|number| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    [&bytes[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &start, &[0, 0]].concat()
}

fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1)))
    })
}
