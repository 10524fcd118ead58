//! What an artifact has of its engine: a kind, and bytes that only the engine of that kind can read.

use canopy_forest::ensemble::forest::{Forest, ForestError, RawForest};
use canopy_forest::ensemble::form::{Ensemble, EnsembleError, Node, Side};
use canopy_forest::read::model::{Linear, Model};

use crate::engine::interface::Engine;
use crate::engine::linear::LinearEngine;
use crate::engine::network::{LoadedNetwork, NetworkEngine, NetworkError};
use crate::engine::trees::TreeEngine;

/// The kind of an ensemble of decision trees.
const TREES: &str = "trees";
/// The kind of a linear model.
const LINEAR: &str = "linear";
/// The kind of a neural network.
const NETWORK: &str = "network";

/// The parameters of an engine, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// An ensemble of decision trees.
    Trees(Ensemble),
    /// Weighted sums.
    Linear(Linear),
    /// A neural network.
    Network(LoadedNetwork),
}

/// Why bytes are no payload.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Another program wrote it.
    #[error(
        "a model of kind {0:?}, but this program has engines for the kinds {TREES:?}, {LINEAR:?} and \
         {NETWORK:?} only: use a newer version"
    )]
    Kind(String),
    /// The bytes are not what the engine writes.
    #[error("a model that cannot be decoded: {0}")]
    Encoding(#[from] postcard::Error),
    /// The nodes are no ensemble.
    #[error("no usable ensemble: {0}")]
    Trees(#[from] EnsembleError),
    /// The weights are no linear model.
    #[error("no usable linear model: it needs weights and an intercept for each score, all of them finite")]
    Linear,
    /// The graph cannot be run.
    #[error("no usable neural network: {0}")]
    Network(#[from] NetworkError),
    /// The nodes are no forest.
    #[error("no usable forest: {0}")]
    Forest(#[from] ForestError),
}

impl Payload {
    /// The word for the kind of engine.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trees(_) => TREES,
            Self::Linear(_) => LINEAR,
            Self::Network(_) => NETWORK,
        }
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Trees(ensemble) => ensemble.inputs(),
            Self::Linear(linear) => linear.weights.first().map_or(0, Vec::len),
            Self::Network(network) => network.inputs(),
        }
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Trees(ensemble) => ensemble.outputs(),
            Self::Linear(linear) => linear.weights.len(),
            Self::Network(network) => network.outputs(),
        }
    }

    /// What the model consists of, for people.
    pub fn size(&self) -> String {
        match self {
            Self::Trees(ensemble) => {
                format!("{} trees, {} nodes", ensemble.raw().trees.len(), ensemble.nodes())
            }
            Self::Linear(_) => format!("linear, {} inputs, {} scores", self.inputs(), self.outputs()),
            Self::Network(network) => network.size(),
        }
    }

    /// The engine, ready for rows.
    pub fn engine(&self) -> Box<dyn Engine> {
        match self {
            Self::Trees(ensemble) => Box::new(TreeEngine::new(ensemble)),
            Self::Linear(linear) => Box::new(LinearEngine::new(linear.clone())),
            Self::Network(network) => Box::new(NetworkEngine::new(network)),
        }
    }

    /// The bytes, the same for the same model.
    pub fn encode(&self) -> Result<Vec<u8>, PayloadError> {
        match self {
            Self::Trees(ensemble) => Ok(postcard::to_extend(ensemble.raw(), Vec::new())?),
            Self::Linear(linear) => Ok(postcard::to_extend(linear, Vec::new())?),
            Self::Network(network) => Ok(network.graph().bytes().to_vec()),
        }
    }

    /// Reads bytes that may be written by anyone.
    pub fn decode(kind: &str, bytes: &[u8]) -> Result<Self, PayloadError> {
        match kind {
            TREES => Ok(Self::Trees(Ensemble::new(postcard::from_bytes(bytes)?)?)),
            LINEAR => Self::linear(postcard::from_bytes(bytes)?),
            NETWORK => Ok(Self::Network(LoadedNetwork::read(bytes)?)),
            _ => Err(PayloadError::Kind(kind.chars().take(40).collect())),
        }
    }

    /// The payload of a model from another library.
    pub fn of_import(model: Model) -> Result<Self, PayloadError> {
        match model {
            Model::Trees(ensemble) => Ok(Self::Trees(ensemble)),
            Model::Linear(linear) => Self::linear(linear),
        }
    }

    /// By column of a preprocessed row, whether training has seen missing values in it. Libraries send NaN to the right
    /// where training has seen none.
    pub fn handles_missing(&self) -> Vec<bool> {
        let mut handled = vec![false; self.inputs()];
        if let Self::Trees(ensemble) = self {
            for node in ensemble.raw().trees.iter().flatten() {
                match *node {
                    Node::Split { feature, missing: Side::Left, .. }
                    | Node::Category { feature, missing: Side::Left, .. } => handled[feature as usize] = true,
                    Node::Split { .. } | Node::Category { .. } | Node::Leaf { .. } => {}
                }
            }
        }
        handled
    }

    /// The payload of a linear model, unchecked.
    pub fn linear(linear: Linear) -> Result<Self, PayloadError> {
        if linear.is_valid() { Ok(Self::Linear(linear)) } else { Err(PayloadError::Linear) }
    }

    /// The payload of a forest, unchecked, as artifacts of format 2 have it.
    pub fn of_forest(forest: RawForest) -> Result<Self, PayloadError> {
        Ok(Self::Trees(Ensemble::try_from(Forest::new(forest)?)?))
    }
}
