//! The fastest layout: nodes of 8 or 12 bytes that are walked without a branch. It fits ensembles that compare 32-bit floats,
//! have no categories, and send every missing value left.

use crate::ensemble::forest::{Forest, Node, Tree};
use crate::ensemble::form::{self, Combine, Ensemble, Side};
use crate::ensemble::precision::Precision;

/// A forest ready for inference.
#[derive(Clone, Debug)]
pub struct CompiledForest {
    pub(crate) features: usize,
    pub(crate) classes: usize,
    pub(crate) nodes: Nodes,
    /// For each node that is a leaf, its distribution.
    pub(crate) leaves: Vec<u32>,
    /// The first node of each tree; the nodes of a tree follow each other.
    pub(crate) roots: Vec<usize>,
    /// One probability per class, distribution after distribution.
    pub(crate) distributions: Vec<f64>,
    pub(crate) combine: Combine,
}

/// All nodes, in the smallest form that holds them.
#[derive(Clone, Debug)]
pub(crate) enum Nodes {
    /// 8 bytes each.
    Small(Vec<Small>),
    /// 12 bytes each.
    Wide(Vec<Wide>),
}

/// A node whose next node is found without a branch: the right child follows the left one, and a leaf leads to itself,
/// because nothing is larger than its threshold, infinity.
pub(crate) trait Step: Copy {
    /// A node with the index of its left child, or of itself, counted from its root.
    fn new(feature: u32, threshold: f32, left: u32) -> Self;
    /// Where to go on, counted from the root.
    fn next(self, row: &[f32]) -> usize;
}

const FEATURE_BITS: u32 = 10;
const LEFT_BITS: u32 = u32::BITS - FEATURE_BITS;

/// A node of a tree of at most 2^22 nodes for at most 2^10 features.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small {
    threshold: f32,
    /// The left child, and in the lowest bits the feature.
    left_and_feature: u32,
}

impl Step for Small {
    fn new(feature: u32, threshold: f32, left: u32) -> Self {
        Self { threshold, left_and_feature: left << FEATURE_BITS | feature }
    }

    #[inline]
    fn next(self, row: &[f32]) -> usize {
        let feature = self.left_and_feature & ((1 << FEATURE_BITS) - 1);
        let left = self.left_and_feature >> FEATURE_BITS;
        left as usize + usize::from(row[feature as usize] > self.threshold)
    }
}

/// A node of any tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide {
    threshold: f32,
    feature: u32,
    left: u32,
}

impl Step for Wide {
    fn new(feature: u32, threshold: f32, left: u32) -> Self {
        Self { threshold, feature, left }
    }

    #[inline]
    fn next(self, row: &[f32]) -> usize {
        self.left as usize + usize::from(row[self.feature as usize] > self.threshold)
    }
}

impl CompiledForest {
    /// Lays `forest` out.
    pub fn new(forest: &Forest) -> Self {
        let distributions = forest.distributions().flatten().copied().collect();
        let (features, classes) = (forest.features(), forest.classes());
        Self::lay_out(features, classes, forest.trees(), distributions, Combine::Mean)
    }

    /// Lays `ensemble` out, if this layout fits it.
    pub fn of_ensemble(ensemble: &Ensemble) -> Option<Self> {
        let raw = ensemble.raw();
        if raw.precision != Precision::Single {
            return None;
        }
        let tree = |tree: &form::Tree| tree.iter().map(narrow).collect::<Option<Tree>>();
        let trees = raw.trees.iter().map(tree).collect::<Option<Vec<Tree>>>()?;
        Some(Self::lay_out(raw.inputs, raw.outputs, &trees, raw.leaves.clone(), raw.combine.clone()))
    }

    fn lay_out(
        features: usize,
        classes: usize,
        trees: &[Tree],
        distributions: Vec<f64>,
        combine: Combine,
    ) -> Self {
        let (mut leaves, mut roots) = (Vec::new(), Vec::new());
        let fits = |tree: &Tree| tree.len() <= 1 << LEFT_BITS;
        let nodes = if features <= 1 << FEATURE_BITS && trees.iter().all(fits) {
            Nodes::Small(lay_out(trees, &mut leaves, &mut roots))
        } else {
            Nodes::Wide(lay_out(trees, &mut leaves, &mut roots))
        };
        Self { features, classes, nodes, leaves, roots, distributions, combine }
    }

    /// How many values a row has.
    pub fn features(&self) -> usize {
        self.features
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }
}

/// The same node with a 32-bit threshold, if that changes nothing.
fn narrow(node: &form::Node) -> Option<Node> {
    match *node {
        form::Node::Split { feature, threshold, left, right, missing: Side::Left } => {
            let narrow = threshold as f32;
            let is_exact = narrow.is_finite() && f64::from(narrow).to_bits() == threshold.to_bits();
            is_exact.then_some(Node::Split { feature, threshold: narrow, left, right })
        }
        form::Node::Leaf { values } => Some(Node::Leaf { distribution: values }),
        form::Node::Split { .. } | form::Node::Category { .. } => None,
    }
}

/// Puts the nodes of each tree level by level, so that the nodes near the root, which every row visits, are together.
fn lay_out<N: Step>(trees: &[Tree], leaves: &mut Vec<u32>, roots: &mut Vec<usize>) -> Vec<N> {
    let mut nodes = Vec::new();
    for tree in trees {
        roots.push(nodes.len());
        let mut order = vec![0];
        for place in 0..tree.len() {
            match tree[order[place]] {
                Node::Split { feature, threshold, left, right } => {
                    nodes.push(N::new(feature, threshold, order.len() as u32));
                    leaves.push(0);
                    order.extend([left as usize, right as usize]);
                }
                Node::Leaf { distribution } => {
                    nodes.push(N::new(0, f32::INFINITY, place as u32));
                    leaves.push(distribution);
                }
            }
        }
    }
    nodes
}
