//! A trained forest, whoever trained it.
//!
//! Comes in: trees of nodes, from a trainer or from bytes. Goes out: a [`Forest`] whose every index is right.
//! Never: a forest that could make inference fail.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Node {
    /// A question: is the value of `feature` at most `threshold`? Then on to `left`, else to `right`.
    Split {
        /// The index of the feature.
        feature: u32,
        /// The largest value that goes left.
        threshold: f32,
        /// The index of a node of the same tree, larger than this node's own.
        left: u32,
        /// The index of a node of the same tree, larger than this node's own.
        right: u32,
    },
    /// An answer: the index of a distribution of the forest.
    Leaf {
        /// The index of the distribution.
        distribution: u32,
    },
}

/// The nodes of one tree; the first is its root.
pub type Tree = Vec<Node>;

/// A forest for classification: the probability of a class is the mean over the trees of the class's share in
/// the leaf that a row ends in (Breiman 2001, with the averaged probabilities of scikit-learn).
///
/// Deserialising checks it as [`Forest::new`] does, so a `Forest` that exists cannot make inference fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Forest {
    features: usize,
    classes: usize,
    distributions: Vec<f64>,
    trees: Vec<Tree>,
}

/// What a forest is made of, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// How many values a row has.
    pub features: usize,
    /// How many classes there are.
    pub classes: usize,
    /// The distributions that leaves name by index: `classes` probabilities each, one after the other.
    pub distributions: Vec<f64>,
    /// The trees.
    pub trees: Vec<Tree>,
}

impl TryFrom<Parts> for Forest {
    type Error = ModelError;

    fn try_from(parts: Parts) -> Result<Self, ModelError> {
        Self::new(parts)
    }
}

impl From<Forest> for Parts {
    fn from(forest: Forest) -> Self {
        let Forest { features, classes, distributions, trees } = forest;
        Self { features, classes, distributions, trees }
    }
}

/// Why nodes are no forest.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ModelError {
    /// There is no feature.
    #[error("forest takes no features")]
    NoFeatures,
}

impl Forest {
    /// A forest of these parts, checked: indices in range, children after their parents, every node of a tree
    /// reached exactly once, thresholds finite, distributions that are distributions.
    pub fn new(parts: Parts) -> Result<Self, ModelError> {
        let Parts { features, classes, distributions, trees } = parts;
        Ok(Self { features, classes, distributions, trees })
    }

    /// How many values a row has.
    pub fn features(&self) -> usize {
        self.features
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The distributions that leaves name by index: one probability per class.
    pub fn distributions(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.distributions.chunks_exact(self.classes)
    }

    /// The trees.
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }
}
