//! A forest for classification, as our trainers make it: leaves have one probability per class. It is checked when it is
//! made, so inference cannot fail. Artifacts of format 2 have it, too.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::data::samples::CLASSES_MAX;
use crate::ensemble::form::{self, Combine, Ensemble, EnsembleError, RawEnsemble, Side};
use crate::ensemble::precision::Precision;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Node {
    /// Left if the value of `feature` is at most `threshold`, otherwise right.
    Split {
        /// The index of the feature.
        feature: u32,
        /// The largest value that goes left.
        threshold: f32,
        /// The index of the left child in the same tree, larger than this node's own.
        left: u32,
        /// The index of the right child in the same tree, larger than this node's own.
        right: u32,
    },
    /// The end of a path: the index of a distribution of the forest.
    Leaf {
        /// The index of the distribution.
        distribution: u32,
    },
}

/// The nodes of one tree: the first is its root, children come after their parents.
pub type Tree = Vec<Node>;

/// A forest for classification: the probability of a class is the mean over the trees of the class's share in
/// the leaf that a row ends in (Breiman 2001, with the averaged probabilities of scikit-learn).
///
/// Deserialising checks it as [`Forest::new`] does, so a `Forest` that exists cannot make inference fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawForest", into = "RawForest")]
pub struct Forest {
    features: usize,
    classes: usize,
    distributions: Vec<f64>,
    trees: Vec<Tree>,
}

/// The parts of a forest, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RawForest {
    /// How many values a row has.
    pub features: usize,
    /// How many classes there are.
    pub classes: usize,
    /// The distributions that leaves name by index: `classes` probabilities each, one after the other.
    pub distributions: Vec<f64>,
    /// The trees.
    pub trees: Vec<Tree>,
}

impl TryFrom<RawForest> for Forest {
    type Error = ForestError;

    fn try_from(parts: RawForest) -> Result<Self, ForestError> {
        Self::new(parts)
    }
}

impl From<Forest> for RawForest {
    fn from(forest: Forest) -> Self {
        let Forest { features, classes, distributions, trees } = forest;
        Self { features, classes, distributions, trees }
    }
}

impl TryFrom<Forest> for Ensemble {
    type Error = EnsembleError;

    /// The mean over the trees of the probabilities, of values in 32 bits. NaN goes left.
    fn try_from(forest: Forest) -> Result<Self, EnsembleError> {
        let Forest { features, classes, distributions, trees } = forest;
        let node = |node| match node {
            Node::Split { feature, threshold, left, right } => {
                form::Node::Split { feature, threshold: threshold.into(), left, right, missing: Side::Left }
            }
            Node::Leaf { distribution } => form::Node::Leaf { values: distribution },
        };
        Self::new(RawEnsemble {
            inputs: features,
            outputs: classes,
            precision: Precision::Single,
            combine: Combine::Mean,
            leaves: distributions,
            sets: Vec::new(),
            trees: trees.into_iter().map(|tree| tree.into_iter().map(node).collect()).collect(),
        })
    }
}

/// Why parts are no forest.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ForestError {
    /// It has no features.
    #[error("forest takes no features: it needs at least one")]
    NoFeatures,
    /// It has too few classes, or too many.
    #[error("forest has {found} classes: it needs from 2 to {CLASSES_MAX}")]
    Classes {
        /// How many it has.
        found: usize,
    },
    /// It has no trees.
    #[error("forest has no trees: it needs at least one")]
    NoTrees,
    /// The last distribution is cut.
    #[error("forest has {found} probabilities in its leaves, which is not a multiple of {classes} classes")]
    CutDistribution {
        /// How many probabilities there are.
        found: usize,
        /// How many classes.
        classes: usize,
    },
    /// Some probability is negative or no number, or they do not sum to 1.
    #[error("distribution {index} of the forest does not have probabilities that sum to 1")]
    NoDistribution {
        /// The index of the distribution.
        index: usize,
    },
    /// A tree has no root.
    #[error("tree {tree} of the forest is empty")]
    EmptyTree {
        /// The index of the tree.
        tree: usize,
    },
    /// A node is wrong.
    #[error("node {node} of tree {tree} of the forest {fault}")]
    Node {
        /// The index of the tree.
        tree: usize,
        /// The index of the node in it.
        node: usize,
        /// What is wrong.
        fault: NodeFault,
    },
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NodeFault {
    /// There is no such feature.
    #[error("has a feature that rows do not have")]
    Feature,
    /// The threshold is NaN or an infinity.
    #[error("has a threshold that is not finite")]
    Threshold,
    /// A child is not there, or not after its parent.
    #[error("has a child that is not after it in the tree")]
    Child,
    /// There is no such distribution.
    #[error("has a distribution that the forest does not have")]
    Distribution,
    /// No path, or more than one, leads here from the root.
    #[error("is not reached from the root by exactly one path")]
    Path,
}

impl Forest {
    /// A forest of these parts, checked: indices in range, children after their parents, every node of a tree
    /// reached by exactly one path, thresholds finite, distributions that are distributions.
    pub fn new(parts: RawForest) -> Result<Self, ForestError> {
        let RawForest { features, classes, distributions, trees } = parts;
        if features == 0 {
            return Err(ForestError::NoFeatures);
        }
        if !(2..=CLASSES_MAX).contains(&classes) {
            return Err(ForestError::Classes { found: classes });
        }
        if trees.is_empty() {
            return Err(ForestError::NoTrees);
        }
        if !distributions.len().is_multiple_of(classes) {
            return Err(ForestError::CutDistribution { found: distributions.len(), classes });
        }
        if let Some(index) = distributions.chunks_exact(classes).position(|chunk| !is_distribution(chunk)) {
            return Err(ForestError::NoDistribution { index });
        }
        let forest = Self { features, classes, distributions, trees };
        forest.check_trees().map(|()| forest)
    }

    fn check_trees(&self) -> Result<(), ForestError> {
        for (index, tree) in self.trees.iter().enumerate() {
            if tree.is_empty() {
                return Err(ForestError::EmptyTree { tree: index });
            }
            self.check_nodes(tree).map_err(|(node, fault)| ForestError::Node { tree: index, node, fault })?;
        }
        Ok(())
    }

    fn check_nodes(&self, tree: &[Node]) -> Result<(), (usize, NodeFault)> {
        let distributions = self.distributions.len() / self.classes;
        let mut reached = vec![false; tree.len()];
        reached[0] = true;
        for (index, node) in tree.iter().enumerate() {
            let fault = match *node {
                _ if !reached[index] => Some(NodeFault::Path),
                Node::Leaf { distribution } => {
                    (distribution as usize >= distributions).then_some(NodeFault::Distribution)
                }
                Node::Split { feature, .. } if feature as usize >= self.features => Some(NodeFault::Feature),
                Node::Split { threshold, .. } if !threshold.is_finite() => Some(NodeFault::Threshold),
                Node::Split { left, right, .. } => {
                    [left, right].into_iter().find_map(|child| reach(child as usize, index, &mut reached))
                }
            };
            if let Some(fault) = fault {
                return Err((index, fault));
            }
        }
        Ok(())
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

/// Notes that a path leads to `child`; a second one would make the tree a graph, whose paths grow without bound.
fn reach(child: usize, parent: usize, reached: &mut [bool]) -> Option<NodeFault> {
    match reached.get_mut(child) {
        Some(reached) if child > parent => std::mem::replace(reached, true).then_some(NodeFault::Path),
        Some(_) | None => Some(NodeFault::Child),
    }
}

fn is_distribution(probabilities: &[f64]) -> bool {
    let sum: f64 = probabilities.iter().sum();
    probabilities.iter().all(|&probability| probability >= 0.0) && (sum - 1.0).abs() < 1e-6
}

/// A forest while its trees are made. Most leaves have one class only, so equal distributions are kept once.
#[derive(Debug)]
pub struct Builder {
    parts: RawForest,
    indices: HashMap<Vec<u64>, u32>,
}

impl Builder {
    /// A forest without trees.
    pub fn new(features: usize, classes: usize) -> Self {
        Self { parts: RawForest { features, classes, ..RawForest::default() }, indices: HashMap::new() }
    }

    /// The index of a distribution: one probability per class.
    pub fn distribution(&mut self, probabilities: &[f64]) -> u32 {
        let bits = probabilities.iter().map(|probability| probability.to_bits()).collect();
        let next = self.indices.len() as u32;
        let index = *self.indices.entry(bits).or_insert(next);
        if index == next {
            self.parts.distributions.extend_from_slice(probabilities);
        }
        index
    }

    /// Adds a tree.
    pub fn push(&mut self, tree: Tree) {
        self.parts.trees.push(tree);
    }

    /// The forest, checked.
    pub fn finish(self) -> Result<Forest, ForestError> {
        Forest::new(self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(feature: u32, threshold: f32, left: u32, right: u32) -> Node {
        Node::Split { feature, threshold, left, right }
    }

    fn leaf(distribution: u32) -> Node {
        Node::Leaf { distribution }
    }

    fn parts() -> RawForest {
        RawForest {
            features: 2,
            classes: 2,
            distributions: vec![1.0, 0.0, 0.25, 0.75],
            trees: vec![
                vec![leaf(1)],
                vec![split(1, 0.5, 2, 1), leaf(0), split(0, -1.0, 3, 4), leaf(1), leaf(0)],
            ],
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut RawForest), expected: &str) {
        let mut changed = parts();
        change(&mut changed);
        let json = serde_json::to_string(&changed);
        assert_eq!(Forest::new(changed).unwrap_err().to_string(), expected);
        // JSON has no NaN; every other wrong forest must be refused where it is read, too.
        if let Ok(read) = json.and_then(|json| serde_json::from_str::<RawForest>(&json)) {
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Forest>(&json).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_right_forest_survives_serialisation() {
        let forest = Forest::new(parts()).unwrap();
        let json = serde_json::to_string(&forest).unwrap();
        assert_eq!(serde_json::from_str::<Forest>(&json).unwrap(), forest);
        assert_eq!(forest.distributions().collect::<Vec<_>>(), [[1.0, 0.0], [0.25, 0.75]]);
    }

    #[test]
    fn a_forest_without_features_classes_or_trees_is_refused() {
        check(|p| p.features = 0, "forest takes no features: it needs at least one");
        check(|p| p.classes = 1, "forest has 1 classes: it needs from 2 to 256");
        check(
            |p| p.classes = usize::MAX,
            &format!("forest has {} classes: it needs from 2 to 256", usize::MAX),
        );
        check(|p| p.trees.clear(), "forest has no trees: it needs at least one");
        check(|p| p.trees[0].clear(), "tree 0 of the forest is empty");
    }

    #[test]
    fn distributions_must_be_whole_and_sum_to_1() {
        check(
            |p| p.distributions.truncate(3),
            "forest has 3 probabilities in its leaves, which is not a multiple of 2 classes",
        );
        let expected = "distribution 1 of the forest does not have probabilities that sum to 1";
        for probabilities in [[0.5, 0.6], [-0.5, 1.5], [f64::NAN, 1.0], [0.0, 0.0], [f64::INFINITY, 0.0]] {
            check(|p| p.distributions[2..].copy_from_slice(&probabilities), expected);
        }
    }

    #[test]
    fn a_wrong_node_is_refused_with_its_tree() {
        let feature = "has a feature that rows do not have";
        let threshold = "has a threshold that is not finite";
        let child = "has a child that is not after it in the tree";
        let distribution = "has a distribution that the forest does not have";
        let path = "is not reached from the root by exactly one path";
        for (index, node, at, fault) in [
            (0, split(2, 0.5, 2, 1), 0, feature),
            (0, split(1, f32::NAN, 2, 1), 0, threshold),
            (0, split(1, f32::INFINITY, 2, 1), 0, threshold),
            (0, split(1, 0.5, 0, 1), 0, child),
            (0, split(1, 0.5, 2, 5), 0, child),
            (2, split(0, -1.0, 1, 4), 2, child),
            (2, split(0, -1.0, 2, 4), 2, child),
            (4, leaf(2), 4, distribution),
            (0, split(1, 0.5, 1, 1), 0, path),
            (2, split(0, -1.0, 4, 4), 2, path),
            (2, leaf(0), 3, path),
            (0, leaf(0), 1, path),
        ] {
            let expected = format!("node {at} of tree 1 of the forest {fault}");
            check(|p| p.trees[1][index] = node, &expected);
        }
    }

    #[test]
    fn a_builder_keeps_equal_distributions_once() {
        let mut builder = Builder::new(1, 2);
        let indices = [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]].map(|shares| builder.distribution(&shares));
        assert_eq!(indices, [0, 1, 0]);
        builder.push(vec![split(0, 0.0, 1, 2), leaf(0), leaf(1)]);
        let forest = builder.finish().unwrap();
        assert_eq!(forest.distributions().collect::<Vec<_>>(), [[1.0, 0.0], [0.5, 0.5]]);
        assert_eq!((forest.features(), forest.classes(), forest.trees().len()), (1, 2, 1));
    }

    proptest! {
        #[test]
        fn from_any_nodes_comes_an_error_or_a_forest_whose_paths_all_end(
            nodes in prop::collection::vec(
                prop_oneof![
                    (0..3_u32, 0..12_u32, 0..12_u32).prop_map(|(f, left, right)| split(f, 0.0, left, right)),
                    (0..3_u32).prop_map(leaf),
                ],
                0..12,
            ),
        ) {
            let trees = vec![nodes];
            if let Ok(forest) = Forest::new(RawForest { trees, ..parts() }) {
                let mut pending = vec![0];
                let mut visited = 0;
                while let Some(index) = pending.pop() {
                    visited += 1;
                    if let Node::Split { left, right, .. } = forest.trees()[0][index as usize] {
                        pending.extend([left, right]);
                    }
                }
                prop_assert_eq!(visited, forest.trees()[0].len());
            }
        }
    }
}
