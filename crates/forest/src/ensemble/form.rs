//! The one form of a tree ensemble, whichever library trained it. It is checked when it is made, so inference cannot fail.
//!
//! What it computes is defined by [`Ensemble::evaluate`]. A reader brings another library's rules into this form:
//! [`Precision::below`] turns a `<` into a `<=`, and the children of a node can be swapped.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ensemble::precision::Precision;

/// The most numbers a row has.
pub const INPUTS_MAX: usize = 1 << 20;
/// The most scores a row gets.
pub const OUTPUTS_MAX: usize = 1 << 16;
/// The most trees.
pub const TREES_MAX: usize = 1 << 20;
/// The most nodes of all trees, and the most numbers in all leaves.
pub const NODES_MAX: usize = 1 << 28;
/// The most categories of a feature: they are the whole numbers below.
pub const CATEGORIES_MAX: usize = 1 << 20;

/// How the leaves of all trees become the scores of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Combine {
    /// Their mean.
    Mean,
    /// Their sum, starting from one number per output.
    Sum {
        /// The numbers.
        base: Vec<f64>,
    },
}

/// A child of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

/// A node of a tree. Children come after their parents in the same tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Encoded", into = "Encoded")]
pub enum Node {
    /// Left if the value is at most the threshold.
    Split {
        /// The index of the value in a row.
        feature: u32,
        /// The largest value that goes left.
        threshold: f64,
        /// The index of the left child.
        left: u32,
        /// The index of the right child.
        right: u32,
        /// Where NaN goes.
        missing: Side,
    },
    /// Left if the value, without its fraction, is one of a set of categories. Negative values and values beyond all
    /// categories go right.
    Category {
        /// The index of the value in a row.
        feature: u32,
        /// The index of the set.
        set: u32,
        /// The index of the left child.
        left: u32,
        /// The index of the right child.
        right: u32,
        /// Where NaN goes.
        missing: Side,
    },
    /// The end of a path.
    Leaf {
        /// The index of the scores: they are the numbers from `values` times the number of outputs on.
        values: u32,
    },
}

/// The nodes of one tree, the root first.
pub type Tree = Vec<Node>;

/// The parts of an ensemble, unchecked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawEnsemble {
    /// How many numbers a row has.
    pub inputs: usize,
    /// How many scores a row gets.
    pub outputs: usize,
    /// How values are compared.
    pub precision: Precision,
    /// How leaves are combined.
    pub combine: Combine,
    /// The scores in the leaves, `outputs` numbers for each.
    pub leaves: Vec<f64>,
    /// Sets of categories: category `c` is in a set if bit `c % 64` of word `c / 64` is set.
    pub sets: Vec<Vec<u64>>,
    /// The trees.
    pub trees: Vec<Tree>,
}

/// A checked ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble(RawEnsemble);

/// Why parts are no ensemble.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EnsembleError {
    /// A count is out of range.
    #[error("{what} must be from {min} to {max}, got {found}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
        /// How many there are.
        found: usize,
    },
    /// The leaves are not whole, or the base is not.
    #[error("{what} has {found} numbers, which does not fit {outputs} outputs")]
    Width {
        /// The leaves or the base.
        what: &'static str,
        /// How many numbers it has.
        found: usize,
        /// How many outputs there are.
        outputs: usize,
    },
    /// A number is NaN or infinite.
    #[error("number {index} of the {what} must be finite")]
    NotFinite {
        /// The leaves or the base.
        what: &'static str,
        /// The index of the number.
        index: usize,
    },
    /// A tree has no root.
    #[error("tree {tree} has no nodes")]
    EmptyTree {
        /// The index of the tree.
        tree: usize,
    },
    /// A node is wrong.
    #[error("node {node} of tree {tree} {fault}")]
    Node {
        /// The index of the tree.
        tree: usize,
        /// The index of the node in the tree.
        node: usize,
        /// What is wrong.
        fault: NodeFault,
    },
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NodeFault {
    /// No such input.
    #[error("has feature {0}, which rows do not have")]
    Feature(u32),
    /// NaN or infinite.
    #[error("has a threshold that is not finite")]
    Threshold,
    /// No such set.
    #[error("has category set {0}, which does not exist")]
    Set(u32),
    /// No such node, or one before this.
    #[error("has child {0}, which is not a later node of the tree")]
    Child(u32),
    /// No such leaf.
    #[error("has leaf values {0}, which do not exist")]
    Leaf(u32),
    /// No path or two paths lead to it.
    #[error("must be reached from the root by exactly one path")]
    Path,
}

impl Ensemble {
    /// Checks the parts: counts within limits, indices in range, children after their parents, exactly one path from the
    /// root to every node, all numbers finite.
    pub fn new(raw: RawEnsemble) -> Result<Self, EnsembleError> {
        let RawEnsemble { inputs, outputs, precision: _, combine, leaves, sets, trees } = &raw;
        let nodes = trees.iter().map(Vec::len).sum();
        let words = sets.iter().map(Vec::len).max().unwrap_or_default();
        for (what, min, max, found) in [
            ("inputs", 1, INPUTS_MAX, *inputs),
            ("outputs", 1, OUTPUTS_MAX, *outputs),
            ("trees", 1, TREES_MAX, trees.len()),
            ("nodes", 1, NODES_MAX, nodes),
            ("numbers in leaves", 1, NODES_MAX, leaves.len()),
            ("category sets", 0, nodes, sets.len()),
            ("categories", 0, CATEGORIES_MAX, words * 64),
        ] {
            if !(min..=max).contains(&found) {
                return Err(EnsembleError::Count { what, min, max, found });
            }
        }
        let mut numbers = vec![("leaves", leaves, leaves.len().is_multiple_of(*outputs))];
        if let Combine::Sum { base } = combine {
            numbers.push(("base", base, base.len() == *outputs));
        }
        for (what, numbers, is_whole) in numbers {
            if !is_whole {
                return Err(EnsembleError::Width { what, found: numbers.len(), outputs: *outputs });
            }
            if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
                return Err(EnsembleError::NotFinite { what, index });
            }
        }
        for (index, tree) in trees.iter().enumerate() {
            if tree.is_empty() {
                return Err(EnsembleError::EmptyTree { tree: index });
            }
            let fault = |(node, fault)| EnsembleError::Node { tree: index, node, fault };
            raw.check_nodes(tree).map_err(fault)?;
        }
        Ok(Self(raw))
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        self.0.inputs
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        self.0.outputs
    }

    /// How many nodes all trees have.
    pub fn nodes(&self) -> usize {
        self.0.trees.iter().map(Vec::len).sum()
    }

    /// The parts.
    pub fn raw(&self) -> &RawEnsemble {
        &self.0
    }
}

impl RawEnsemble {
    /// The scores in a leaf.
    pub(crate) fn leaf(&self, values: u32) -> &[f64] {
        &self.leaves[values as usize * self.outputs..][..self.outputs]
    }

    fn check_nodes(&self, tree: &Tree) -> Result<(), (usize, NodeFault)> {
        let leaves = self.leaves.len() / self.outputs;
        let mut reached = vec![false; tree.len()];
        reached[0] = true;
        for (index, node) in tree.iter().enumerate() {
            let fault = match *node {
                _ if !reached[index] => Some(NodeFault::Path),
                Node::Leaf { values } => (values as usize >= leaves).then_some(NodeFault::Leaf(values)),
                Node::Split { feature, .. } | Node::Category { feature, .. }
                    if feature as usize >= self.inputs =>
                {
                    Some(NodeFault::Feature(feature))
                }
                Node::Split { threshold, .. } if !threshold.is_finite() => Some(NodeFault::Threshold),
                Node::Category { set, .. } if set as usize >= self.sets.len() => Some(NodeFault::Set(set)),
                Node::Split { left, right, .. } | Node::Category { left, right, .. } => {
                    [left, right].into_iter().find_map(|child| reach(child, index, &mut reached))
                }
            };
            if let Some(fault) = fault {
                return Err((index, fault));
            }
        }
        Ok(())
    }
}

/// Notes that a path leads to `child`. A second path would make the tree a graph, whose paths grow without bound.
fn reach(child: u32, parent: usize, reached: &mut [bool]) -> Option<NodeFault> {
    match reached.get_mut(child as usize) {
        Some(reached) if child as usize > parent => {
            std::mem::replace(reached, true).then_some(NodeFault::Path)
        }
        Some(_) | None => Some(NodeFault::Child(child)),
    }
}

/// A node as it is serialised: the first variant has the form that is by far the most frequent, in few bytes.
#[derive(Serialize, Deserialize)]
enum Encoded {
    Narrow { feature: u32, threshold: f32, left: u32, right: u32 },
    Leaf { values: u32 },
    Wide { feature: u32, threshold: f64, left: u32, right: u32, missing: Side },
    Category { feature: u32, set: u32, left: u32, right: u32, missing: Side },
}

impl From<Node> for Encoded {
    fn from(node: Node) -> Self {
        match node {
            Node::Split { feature, threshold, left, right, missing } => {
                let narrow = threshold as f32;
                if missing == Side::Left && f64::from(narrow).to_bits() == threshold.to_bits() {
                    Self::Narrow { feature, threshold: narrow, left, right }
                } else {
                    Self::Wide { feature, threshold, left, right, missing }
                }
            }
            Node::Category { feature, set, left, right, missing } => {
                Self::Category { feature, set, left, right, missing }
            }
            Node::Leaf { values } => Self::Leaf { values },
        }
    }
}

impl From<Encoded> for Node {
    fn from(encoded: Encoded) -> Self {
        match encoded {
            Encoded::Narrow { feature, threshold, left, right } => {
                Self::Split { feature, threshold: f64::from(threshold), left, right, missing: Side::Left }
            }
            Encoded::Wide { feature, threshold, left, right, missing } => {
                Self::Split { feature, threshold, left, right, missing }
            }
            Encoded::Category { feature, set, left, right, missing } => {
                Self::Category { feature, set, left, right, missing }
            }
            Encoded::Leaf { values } => Self::Leaf { values },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(feature: u32, threshold: f64, left: u32, right: u32) -> Node {
        Node::Split { feature, threshold, left, right, missing: Side::Right }
    }

    fn raw() -> RawEnsemble {
        RawEnsemble {
            inputs: 2,
            outputs: 2,
            precision: Precision::Double,
            combine: Combine::Sum { base: vec![0.5, 0.0] },
            leaves: vec![1.0, 0.0, -3.0, 4.0],
            sets: vec![vec![5]],
            trees: vec![
                vec![Node::Leaf { values: 1 }],
                vec![
                    Node::Category { feature: 1, set: 0, left: 1, right: 2, missing: Side::Left },
                    Node::Leaf { values: 0 },
                    split(0, 0.1, 3, 4),
                    Node::Leaf { values: 1 },
                    Node::Leaf { values: 0 },
                ],
            ],
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut RawEnsemble), expected: &str) {
        let mut changed = raw();
        change(&mut changed);
        assert_eq!(Ensemble::new(changed).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_parts_survive_serialisation() {
        let json = serde_json::to_string(&raw()).unwrap();
        assert_eq!(serde_json::from_str::<RawEnsemble>(&json).unwrap(), raw());
        assert_eq!(Ensemble::new(raw()).unwrap().raw(), &raw());
    }

    #[test]
    fn counts_beyond_the_limits_are_refused_by_name() {
        check(|raw| raw.inputs = 0, "inputs must be from 1 to 1048576, got 0");
        check(
            |raw| raw.inputs = usize::MAX,
            &format!("inputs must be from 1 to 1048576, got {}", usize::MAX),
        );
        check(|raw| raw.outputs = 0, "outputs must be from 1 to 65536, got 0");
        check(|raw| raw.trees.clear(), "trees must be from 1 to 1048576, got 0");
        check(|raw| raw.leaves.clear(), "numbers in leaves must be from 1 to 268435456, got 0");
        check(|raw| raw.sets = vec![vec![]; 7], "category sets must be from 0 to 6, got 7");
        check(|raw| raw.sets = vec![vec![0; 16_385]], "categories must be from 0 to 1048576, got 1048640");
    }

    #[test]
    fn leaves_and_base_must_fit_the_outputs_and_be_finite() {
        check(|raw| raw.leaves.truncate(3), "leaves has 3 numbers, which does not fit 2 outputs");
        check(
            |raw| raw.combine = Combine::Sum { base: vec![1.0] },
            "base has 1 numbers, which does not fit 2 outputs",
        );
        check(|raw| raw.leaves[3] = f64::NAN, "number 3 of the leaves must be finite");
        check(
            |raw| raw.combine = Combine::Sum { base: vec![0.0, f64::INFINITY] },
            "number 1 of the base must be finite",
        );
    }

    #[test]
    fn a_wrong_node_is_refused_with_its_place() {
        check(|raw| raw.trees[0].clear(), "tree 0 has no nodes");
        for (index, node, at, fault) in [
            (2, split(2, 0.1, 3, 4), 2, "has feature 2, which rows do not have"),
            (2, split(0, f64::NAN, 3, 4), 2, "has a threshold that is not finite"),
            (2, split(0, 0.1, 2, 4), 2, "has child 2, which is not a later node of the tree"),
            (2, split(0, 0.1, 3, 5), 2, "has child 5, which is not a later node of the tree"),
            (2, split(0, 0.1, 3, 3), 2, "must be reached from the root by exactly one path"),
            (2, Node::Leaf { values: 0 }, 3, "must be reached from the root by exactly one path"),
            (4, Node::Leaf { values: 2 }, 4, "has leaf values 2, which do not exist"),
            (
                0,
                Node::Category { feature: 1, set: 1, left: 1, right: 2, missing: Side::Left },
                0,
                "has category set 1, which does not exist",
            ),
        ] {
            check(|raw| raw.trees[1][index] = node, &format!("node {at} of tree 1 {fault}"));
        }
    }
}
