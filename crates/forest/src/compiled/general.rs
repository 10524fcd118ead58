//! The layout for every ensemble that the fastest one does not fit: 64-bit thresholds, categories, a side of its own for
//! missing values at each node.

use crate::ensemble::form::{Combine, Ensemble, Node, RawEnsemble, Side, Tree};
use crate::ensemble::precision::Precision;

/// An ensemble of any kind, ready for rows.
#[derive(Clone, Debug)]
pub(crate) struct GeneralEnsemble {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    precision: Precision,
    combine: Combine,
    nodes: Vec<Step>,
    roots: Vec<u32>,
    leaves: Vec<f64>,
    /// The words of all sets, one set after the other.
    words: Vec<u64>,
}

/// A node. The right child follows the left one.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: Kind,
    missing: Side,
    feature: u32,
    /// The left child, counted from the first node of all; of a leaf, the start of its scores.
    next: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Leaf,
    Split { threshold: f64 },
    Category { start: u32, words: u32 },
}

impl GeneralEnsemble {
    pub(crate) fn new(ensemble: &Ensemble) -> Self {
        let RawEnsemble { inputs, outputs, precision, combine, leaves, sets, trees } = ensemble.raw();
        let (mut words, mut starts) = (Vec::new(), Vec::new());
        for set in sets {
            starts.push((words.len() as u32, set.len() as u32));
            words.extend_from_slice(set);
        }
        let (mut nodes, mut roots) = (Vec::new(), Vec::new());
        for tree in trees {
            roots.push(nodes.len() as u32);
            lay_out(tree, &starts, *outputs, &mut nodes);
        }
        Self {
            inputs: *inputs,
            outputs: *outputs,
            precision: *precision,
            combine: combine.clone(),
            nodes,
            roots,
            leaves: leaves.clone(),
            words,
        }
    }

    /// Fills `scores` with the scores of each row; the lengths have been checked.
    pub(crate) fn run(&self, rows: &[f64], scores: &mut [f64]) {
        for (row, scores) in rows.chunks_exact(self.inputs).zip(scores.chunks_exact_mut(self.outputs)) {
            match &self.combine {
                Combine::Mean => scores.fill(0.0),
                Combine::Sum { base } => scores.copy_from_slice(base),
            }
            for &root in &self.roots {
                let start = self.walk(root, row);
                for (score, value) in scores.iter_mut().zip(&self.leaves[start..start + self.outputs]) {
                    *score += value;
                }
            }
            if self.combine == Combine::Mean {
                for score in scores {
                    *score /= self.roots.len() as f64;
                }
            }
        }
    }

    /// Where the scores begin of the leaf in which the row ends.
    fn walk(&self, root: u32, row: &[f64]) -> usize {
        let mut place = root;
        loop {
            let Step { kind, missing, feature, next } = self.nodes[place as usize];
            let value = match self.precision {
                Precision::Single => f64::from(row[feature as usize] as f32),
                Precision::Double => row[feature as usize],
            };
            let is_left = match kind {
                Kind::Leaf => return next as usize,
                _ if value.is_nan() => missing == Side::Left,
                Kind::Split { threshold } => value <= threshold,
                Kind::Category { start, words } => {
                    let set = &self.words[start as usize..(start + words) as usize];
                    crate::ensemble::evaluation::contains(set, value)
                }
            };
            place = next + u32::from(!is_left);
        }
    }
}

/// Puts the nodes of a tree level by level behind those of the trees before.
fn lay_out(tree: &Tree, sets: &[(u32, u32)], outputs: usize, nodes: &mut Vec<Step>) {
    let root = nodes.len();
    let mut order = vec![0];
    for place in 0..tree.len() {
        let next = (root + order.len()) as u32;
        let (step, children) = match tree[order[place] as usize] {
            Node::Split { feature, threshold, left, right, missing } => {
                (Step { kind: Kind::Split { threshold }, missing, feature, next }, [left, right])
            }
            Node::Category { feature, set, left, right, missing } => {
                let (start, words) = sets[set as usize];
                (Step { kind: Kind::Category { start, words }, missing, feature, next }, [left, right])
            }
            Node::Leaf { values } => {
                let next = values * outputs as u32;
                nodes.push(Step { kind: Kind::Leaf, missing: Side::Left, feature: 0, next });
                continue;
            }
        };
        nodes.push(step);
        order.extend(children);
    }
}
