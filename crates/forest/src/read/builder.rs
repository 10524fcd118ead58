//! Collects the trees of libraries whose leaves have one number each, which counts for one output.

use crate::ensemble::form::{CATEGORIES_MAX, Combine, Ensemble, Node, RawEnsemble, Tree};
use crate::ensemble::precision::Precision;
use crate::read::arrange::arrange;
use crate::read::error::{Limits, Problem};

/// An ensemble in the making, within limits.
pub(crate) struct Builder {
    limits: Limits,
    outputs: usize,
    nodes: usize,
    words: usize,
    leaves: Vec<f64>,
    sets: Vec<Vec<u64>>,
    trees: Vec<Tree>,
}

impl Builder {
    pub(crate) fn new(outputs: usize, limits: Limits) -> Self {
        Self { limits, outputs, nodes: 0, words: 0, leaves: Vec::new(), sets: Vec::new(), trees: Vec::new() }
    }

    /// How many trees there are.
    pub(crate) fn trees(&self) -> usize {
        self.trees.len()
    }

    /// Adds the tree of the nodes that are reached from node 0 of `count` nodes; see [`arrange`].
    pub(crate) fn add(
        &mut self,
        count: usize,
        mut node: impl FnMut(&mut Self, usize) -> Result<Node, Problem>,
    ) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(count);
        Limits::check("trees", self.trees.len() + 1, self.limits.trees)?;
        Limits::check("nodes", self.nodes, self.limits.nodes)?;
        let tree = arrange(count, 0, |index| node(self, index))?;
        self.trees.push(tree);
        Ok(())
    }

    /// A leaf that adds `value` to one output.
    pub(crate) fn leaf(&mut self, output: usize, value: f64) -> Result<Node, Problem> {
        let start = self.leaves.len();
        Limits::check("numbers in leaves", start.saturating_add(self.outputs), self.limits.numbers)?;
        self.leaves.resize(start + self.outputs, 0.0);
        let place = self.leaves[start..].get_mut(output).ok_or_else(|| {
            Problem::malformed(format!(
                "a tree is for output {output}, but there are {} outputs",
                self.outputs
            ))
        })?;
        *place = value;
        Ok(Node::Leaf { values: u32::try_from(start / self.outputs).unwrap_or(u32::MAX) })
    }

    /// How many sets of categories there are.
    pub(crate) fn sets(&self) -> u32 {
        u32::try_from(self.sets.len()).unwrap_or(u32::MAX)
    }

    /// Adds the set of these categories.
    pub(crate) fn set_of(&mut self, categories: &[u32]) -> Result<(), Problem> {
        let largest = categories.iter().max().map_or(0, |largest| *largest as usize);
        Limits::check("categories", largest, CATEGORIES_MAX - 1)?;
        // A set costs more memory than its list if its categories are far apart.
        self.words += largest / 64 + 1;
        Limits::check("words of category sets", self.words, self.limits.numbers)?;
        let mut words = vec![0; largest / 64 + 1];
        for category in categories {
            words[*category as usize / 64] |= 1 << (category % 64);
        }
        self.set(words);
        Ok(())
    }

    /// Adds a set of categories; see [`RawEnsemble::sets`].
    pub(crate) fn set(&mut self, words: Vec<u64>) {
        self.sets.push(words);
    }

    /// The ensemble: the sum of the leaves from a base. All leaves are multiplied by `scale`.
    pub(crate) fn finish(
        self,
        inputs: usize,
        precision: Precision,
        base: Vec<f64>,
        scale: f64,
    ) -> Result<Ensemble, Problem> {
        let Self { outputs, mut leaves, sets, trees, .. } = self;
        for leaf in &mut leaves {
            *leaf *= scale;
        }
        let combine = Combine::Sum { base };
        Ok(Ensemble::new(RawEnsemble { inputs, outputs, precision, combine, leaves, sets, trees })?)
    }
}
