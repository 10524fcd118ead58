//! A forest laid out to be walked fast.
//!
//! Comes in: a checked [`Forest`]. Goes out: the same questions in few bytes, without a branch between them.
//! Never: another answer.

use crate::ensemble::{Forest, Node, Tree};

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
}

/// All nodes, in the smallest form that holds them.
#[derive(Clone, Debug)]
pub(crate) enum Nodes {
    /// 8 bytes each.
    Small(Vec<Small>),
    /// 12 bytes each.
    Wide(Vec<Wide>),
}

/// A node that knows where to go on without asking whether it is a leaf: the right child follows the left one,
/// and a leaf goes on to itself, since nothing is larger than its threshold, infinity.
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
        let mut leaves = Vec::new();
        let mut roots = Vec::new();
        let fits = |tree: &Tree| tree.len() <= 1 << LEFT_BITS;
        let nodes = if forest.features() <= 1 << FEATURE_BITS && forest.trees().iter().all(fits) {
            Nodes::Small(lay_out(forest, &mut leaves, &mut roots))
        } else {
            Nodes::Wide(lay_out(forest, &mut leaves, &mut roots))
        };
        let distributions = forest.distributions().flatten().copied().collect();
        Self { features: forest.features(), classes: forest.classes(), nodes, leaves, roots, distributions }
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

/// Puts the nodes of each tree level by level: the questions that every row is asked are together.
fn lay_out<N: Step>(forest: &Forest, leaves: &mut Vec<u32>, roots: &mut Vec<usize>) -> Vec<N> {
    let mut nodes = Vec::new();
    for tree in forest.trees() {
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
