//! The artifact: a model as one file. Bytes are checked in full, so a model that was read does not fail later.
//!
//! A file is a signature of 8 bytes, the version of the format (32 bits, little endian), a SHA-256 of the format and the
//! content, and the content, written by postcard. In format 3 that is the card as JSON, the kind of the engine, the scaler, the preprocessing, the
//! reference, and the payload, which only the engine of that kind can read. Format 2 has a forest in place of kind and payload, and a
//! checksum of the content alone; it is read, but not written any more.

use std::path::Path;

use canopy_contract::describe::Quality;
use canopy_contract::names::ModelName;
use canopy_contract::schema::{Class, Feature};
use canopy_forest::ensemble::forest::RawForest;
use canopy_forest::read::preprocessing::Preprocessing;
use canopy_forest::scale::Scaler;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::baseline::reference::Reference;
use crate::engine::head::Head;
use crate::engine::loaded::LoadedModel;
use crate::engine::payload::{Payload, PayloadError};
use crate::files::{self, FileError};

/// The largest artifact that is read.
pub const ARTIFACT_MAX_BYTES: u64 = 1 << 30;

/// As in PNG, the first byte is no text and the last a line's end: what mangles text is found at once.
const SIGNATURE: [u8; 8] = *b"\x89canopy\n";
const FORMAT: u32 = 3;
/// The oldest format that is read. Format 1 has no reference.
const OLDEST_FORMAT: u32 = 2;
const CHECKSUM_AT: usize = SIGNATURE.len() + size_of::<u32>();
const CONTENT_AT: usize = CHECKSUM_AT + 32;

/// The description of a model in its artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The model's name.
    pub model: ModelName,
    /// The version it was prepared as.
    pub version: String,
    /// The revision it was prepared for.
    pub revision: String,
    /// The features, in order.
    pub features: Vec<Feature>,
    /// The classes, by index.
    pub classes: Vec<Class>,
    /// The names of the values, by index, if the model has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// The quality on the held-out rows, or on the rows for evaluation; absent if the model was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// How the scores of the engine are read.
    #[serde(default)]
    pub head: Head,
}

/// A model, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    card: Card,
    scaler: Scaler,
    preprocessing: Option<Preprocessing>,
    reference: Option<Reference>,
    payload: Payload,
}

/// Why bytes are not an artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It does not begin as one.
    #[error("artifact does not begin with the signature of one: it is another kind of file, or was changed")]
    Signature,
    /// It has a format of another program.
    #[error(
        "artifact has format {0}, but this program reads formats {OLDEST_FORMAT} to {FORMAT}: prepare it again with \
         this version"
    )]
    Format(u32),
    /// It is shorter than its own head.
    #[error("artifact has only {0} bytes: it was cut")]
    Cut(usize),
    /// Its content is not what was written.
    #[error("artifact does not match its own checksum: it was changed or cut, so prepare it again")]
    Checksum,
    /// Its checksum is right, but its content cannot be read.
    #[error("artifact cannot be decoded: {0}")]
    Content(#[from] postcard::Error),
    /// Its card cannot be read.
    #[error("artifact has a card that cannot be read: {0}")]
    Card(#[from] serde_json::Error),
    /// Its engine cannot be made.
    #[error("artifact has {0}")]
    Payload(#[from] PayloadError),
    /// Its parts do not belong together.
    #[error(
        "artifact has a card with {features} features and {classes} classes, but its parts have other numbers"
    )]
    Mismatch {
        /// How many features its card has.
        features: usize,
        /// How many classes its card has.
        classes: usize,
    },
}

#[derive(Serialize, Deserialize)]
struct Content<'a> {
    card: &'a str,
    kind: &'a str,
    scaler: Scaler,
    preprocessing: Option<Preprocessing>,
    reference: Option<Reference>,
    payload: &'a [u8],
}

/// The content in format 2.
#[derive(Deserialize)]
struct Content2 {
    card: String,
    scaler: Scaler,
    reference: Reference,
    forest: RawForest,
}

impl Artifact {
    /// An artifact of a trained model, whose parts belong together: as many features and classes in each.
    pub fn new(
        card: Card,
        scaler: Scaler,
        reference: Reference,
        payload: Payload,
    ) -> Result<Self, ArtifactError> {
        Self::of_parts(card, scaler, None, Some(reference), payload)
    }

    /// An artifact of a model that was trained elsewhere: there are no training rows to compare live rows with.
    pub fn imported(
        card: Card,
        preprocessing: Preprocessing,
        payload: Payload,
    ) -> Result<Self, ArtifactError> {
        let scaler = Scaler::identity(card.features.len());
        let preprocessing = Some(preprocessing).filter(|steps| !steps.steps().is_empty());
        Self::of_parts(card, scaler, preprocessing, None, payload)
    }

    fn of_parts(
        card: Card,
        scaler: Scaler,
        preprocessing: Option<Preprocessing>,
        reference: Option<Reference>,
        payload: Payload,
    ) -> Result<Self, ArtifactError> {
        let (features, classes) = (card.features.len(), card.classes.len());
        let (before, after) =
            preprocessing.as_ref().map_or((features, features), |steps| (steps.inputs(), steps.outputs()));
        let takes_rows = [scaler.offsets().len(), before] == [features; 2] && after == payload.inputs();
        let has_scores = card.head.takes(payload.outputs(), classes);
        let has_reference = reference.as_ref().is_none_or(|reference| reference.is_of(features, classes));
        let values = if classes == 0 && payload.outputs() > 1 { payload.outputs() } else { 0 };
        let has_names = card.outputs.len() == values;
        if !takes_rows || !has_scores || !has_reference || !has_names {
            return Err(ArtifactError::Mismatch { features, classes });
        }
        Ok(Self { card, scaler, preprocessing, reference, payload })
    }

    /// The description of the model.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The distribution of the training rows; absent if the model was trained elsewhere.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// The same model with another description.
    pub fn with_card(self, card: Card) -> Result<Self, ArtifactError> {
        Self::of_parts(card, self.scaler, self.preprocessing, self.reference, self.payload)
    }

    /// The same artifact with the quality that the model was found to have.
    #[must_use]
    pub fn with_quality(mut self, quality: Option<Quality>) -> Self {
        self.card.quality = quality;
        self
    }

    /// The model, ready for rows.
    pub fn load(&self) -> LoadedModel {
        LoadedModel::new(&self.scaler, self.preprocessing.as_ref(), self.payload.engine(), self.card.head)
    }

    /// Its bytes: the same for the same model.
    pub fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let card = serde_json::to_string(&self.card)?;
        let payload = self.payload.encode()?;
        let content = Content {
            card: &card,
            kind: self.payload.kind(),
            scaler: self.scaler.clone(),
            preprocessing: self.preprocessing.clone(),
            reference: self.reference.clone(),
            payload: &payload,
        };
        let mut bytes = [&SIGNATURE[..], &FORMAT.to_le_bytes(), &[0; 32]].concat();
        bytes = postcard::to_extend(&content, bytes)?;
        let checksum = checksum(FORMAT, &bytes[CONTENT_AT..]);
        bytes[CHECKSUM_AT..CONTENT_AT].copy_from_slice(&checksum);
        Ok(bytes)
    }

    /// The artifact that `bytes` are.
    pub fn decode(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let Some((signature, rest)) = bytes.split_first_chunk() else {
            return Err(ArtifactError::Cut(bytes.len()));
        };
        if *signature != SIGNATURE {
            return Err(ArtifactError::Signature);
        }
        let Some((format, rest)) = rest.split_first_chunk() else {
            return Err(ArtifactError::Cut(bytes.len()));
        };
        let format = u32::from_le_bytes(*format);
        if !(OLDEST_FORMAT..=FORMAT).contains(&format) {
            return Err(ArtifactError::Format(format));
        }
        let Some((checksum, rest)) = rest.split_first_chunk::<32>() else {
            return Err(ArtifactError::Cut(bytes.len()));
        };
        if self::checksum(format, rest) != *checksum {
            return Err(ArtifactError::Checksum);
        }
        if format == FORMAT {
            let Content { card, kind, scaler, preprocessing, reference, payload } =
                postcard::from_bytes(rest)?;
            let payload = Payload::decode(kind, payload)?;
            return Self::of_parts(serde_json::from_str(card)?, scaler, preprocessing, reference, payload);
        }
        // Unchecked at first: postcard would not pass on what is wrong with a forest.
        let Content2 { card, scaler, reference, forest } = postcard::from_bytes(rest)?;
        Self::new(serde_json::from_str(&card)?, scaler, reference, Payload::of_forest(forest)?)
    }

    /// What the model consists of, for people: how many trees and nodes.
    pub fn size(&self) -> String {
        self.payload.size()
    }

    /// Writes it to a file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), ArtifactError> {
        Ok(files::replace(path, &self.encode()?)?)
    }

    /// Reads it from a file.
    pub fn read(path: &Path) -> Result<Self, ArtifactError> {
        Self::decode(&files::read(path, ARTIFACT_MAX_BYTES)?)
    }
}

/// Whether bytes begin as an artifact does.
pub fn is_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

fn checksum(format: u32, content: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    if format != OLDEST_FORMAT {
        hash.update(format.to_le_bytes());
    }
    hash.update(content);
    hash.finalize().into()
}

/// The SHA-256 of a file's bytes in hexadecimal, as `sha256sum` prints it.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Two digits per byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
        text
    })
}
