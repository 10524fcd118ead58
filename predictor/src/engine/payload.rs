//! What an artifact has of its engine: a kind, and bytes that only the engine of that kind can read.

use canopy_forest::ensemble::{Forest, ForestError, RawForest};

use crate::engine::forest::ForestEngine;
use crate::engine::interface::Engine;

/// The kind of a decision forest.
const FOREST: &str = "forest";

/// The parameters of an engine, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A decision forest.
    Forest(Forest),
}

/// Why bytes are no payload.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Another program wrote it.
    #[error(
        "a model of kind {0:?}, but this program has engines for the kind {FOREST:?} only: use a newer version"
    )]
    Kind(String),
    /// The bytes are not what the engine writes.
    #[error("a model that cannot be decoded: {0}")]
    Encoding(#[from] postcard::Error),
    /// The nodes are no forest.
    #[error("no usable forest: {0}")]
    Forest(#[from] ForestError),
}

impl Payload {
    /// The word for the kind of engine.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Forest(_) => FOREST,
        }
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Forest(forest) => forest.features(),
        }
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Forest(forest) => forest.classes(),
        }
    }

    /// The engine, ready for rows.
    pub fn engine(&self) -> Box<dyn Engine> {
        match self {
            Self::Forest(forest) => Box::new(ForestEngine::new(forest)),
        }
    }

    /// The bytes, the same for the same model.
    pub fn encode(&self) -> Result<Vec<u8>, PayloadError> {
        match self {
            Self::Forest(forest) => Ok(postcard::to_extend(forest, Vec::new())?),
        }
    }

    /// Reads bytes that may be written by anyone.
    pub fn decode(kind: &str, bytes: &[u8]) -> Result<Self, PayloadError> {
        match kind {
            FOREST => Self::forest(postcard::from_bytes(bytes)?),
            _ => Err(PayloadError::Kind(kind.chars().take(40).collect())),
        }
    }

    /// The payload of an unchecked forest.
    pub fn forest(forest: RawForest) -> Result<Self, PayloadError> {
        Ok(Self::Forest(Forest::new(forest)?))
    }
}
