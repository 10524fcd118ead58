//! The branches of ONNX trees in the form of an ensemble. Tests for equality become sets of categories over a column that
//! has the index of the value among all values that are tested for.

use std::collections::{BTreeMap, HashMap};

use crate::ensemble::form::{Combine, Ensemble, Node, RawEnsemble, Side};
use crate::ensemble::precision::Precision;
use crate::read::arrange::{UNREACHED, arrange_in};
use crate::read::columns::Table;
use crate::read::error::{Limits, Problem};
use crate::read::model::{Link, Model};

/// The test of a branch: the value of the feature, compared with the value of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Unequal,
    Member,
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Branch {
    /// A leaf and the index of its scores.
    Leaf(u32),
    Split(Split),
}

/// An inner node. Children are indices of nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub(crate) feature: u32,
    pub(crate) mode: Mode,
    pub(crate) value: f64,
    /// The first and the end of the values that a [`Mode::Member`] tests for.
    pub(crate) members: (usize, usize),
    pub(crate) yes: u32,
    pub(crate) no: u32,
    /// Whether a missing value passes the test.
    pub(crate) missing_passes: bool,
}

/// The nodes of all trees and their leaves.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    pub(crate) nodes: Vec<Branch>,
    pub(crate) roots: Vec<usize>,
    /// The values that [`Split::members`] refers to.
    pub(crate) members: Vec<f64>,
    pub(crate) outputs: usize,
    /// One number per output for each leaf.
    pub(crate) leaves: Vec<f64>,
    pub(crate) base: Vec<f64>,
}

/// A model made of an operator.
#[derive(Debug)]
pub(crate) struct Predictor {
    pub(crate) model: Model,
    /// Columns to append to the row: each looks the value of a column up.
    pub(crate) lookups: Vec<(usize, Table)>,
    pub(crate) link: Link,
    /// The labels; none for a regressor.
    pub(crate) labels: Option<Vec<String>>,
}

/// The values that a feature is tested for, and the index of the column with the index of a value among them.
struct Lookup {
    column: u32,
    values: Vec<f64>,
}

impl Branches {
    /// The ensemble over rows of `inputs` numbers, and the columns that rows need besides.
    pub(crate) fn grow(
        self,
        inputs: usize,
        precision: Precision,
        limits: &Limits,
    ) -> Result<(Ensemble, Vec<(usize, Table)>), Problem> {
        Limits::check("trees", self.roots.len(), limits.trees)?;
        Limits::check("nodes", self.nodes.len(), limits.nodes)?;
        let lookups = self.lookups(inputs)?;
        let mut sets = Sets { lookups: &lookups, sets: Vec::new(), words: 0, known: HashMap::new() };
        let mut places = vec![UNREACHED; self.nodes.len()];
        let mut trees = Vec::with_capacity(self.roots.len());
        for root in &self.roots {
            trees.push(arrange_in(&mut places, *root, |index| match self.nodes[index] {
                Branch::Leaf(values) => Ok(Node::Leaf { values }),
                Branch::Split(split) => self.node(&split, precision, &mut sets, limits),
            })?);
        }
        // A root that is its own child is no root, and another node would be taken for it.
        if let Some(index) = places.iter().position(|place| *place == UNREACHED) {
            return Err(Problem::malformed(format!("node {index} is not reached from the root of its tree")));
        }
        let sets = sets.sets;
        let Self { outputs, leaves, base, .. } = self;
        let combine = Combine::Sum { base };
        let inputs = inputs + lookups.len();
        let ensemble =
            Ensemble::new(RawEnsemble { inputs, outputs, precision, combine, leaves, sets, trees })?;
        let mut columns: Vec<_> = lookups.into_iter().collect();
        columns.sort_by_key(|(_, lookup)| lookup.column);
        let table = |values: Vec<f64>| {
            Table::new(values.into_iter().enumerate().map(|(index, value)| (value, index as f64)), -1.0)
        };
        let columns = columns.into_iter().map(|(feature, lookup)| (feature as usize, table(lookup.values)));
        Ok((ensemble, columns.collect()))
    }

    /// For each feature with tests for equality, all values that it is tested for.
    fn lookups(&self, inputs: usize) -> Result<BTreeMap<u32, Lookup>, Problem> {
        let mut lookups = BTreeMap::<u32, Lookup>::new();
        for node in &self.nodes {
            if let Branch::Split(split) = node
                && let Some(wanted) = self.wanted(split)
            {
                if split.feature as usize >= inputs {
                    let feature = split.feature;
                    return Err(Problem::malformed(format!("a branch has feature {feature} of {inputs}")));
                }
                let next = inputs + lookups.len();
                let column = u32::try_from(next).map_err(|_| Problem::malformed("the row is too long"))?;
                let lookup =
                    lookups.entry(split.feature).or_insert_with(|| Lookup { column, values: Vec::new() });
                // Adding zero makes 0 of -0, which is equal to it.
                lookup.values.extend(wanted.iter().map(|value| value + 0.0));
            }
        }
        for lookup in lookups.values_mut() {
            lookup.values.sort_by(f64::total_cmp);
            lookup.values.dedup_by_key(|value| value.to_bits());
        }
        Ok(lookups)
    }

    /// The values that a node tests for equality.
    fn wanted<'a>(&'a self, split: &'a Split) -> Option<&'a [f64]> {
        match split.mode {
            Mode::Equal | Mode::Unequal => Some(std::slice::from_ref(&split.value)),
            Mode::Member => Some(self.members.get(split.members.0..split.members.1).unwrap_or_default()),
            Mode::AtMost | Mode::Below | Mode::AtLeast | Mode::Above => None,
        }
    }

    fn node(
        &self,
        split: &Split,
        precision: Precision,
        sets: &mut Sets<'_>,
        limits: &Limits,
    ) -> Result<Node, Problem> {
        let Split { feature, mode, value, yes, no, missing_passes, members: _ } = *split;
        // A finite value is never above the largest.
        let value = if value.is_infinite() && value > 0.0 { f64::MAX } else { value };
        // A test that is the opposite of one that the form has: the child for `no` is on the left.
        let is_opposite = matches!(mode, Mode::Above | Mode::AtLeast | Mode::Unequal);
        let (left, right) = if is_opposite { (no, yes) } else { (yes, no) };
        // NaN differs from every value, and passes no other test.
        let passes = missing_passes || mode == Mode::Unequal;
        let missing = if passes == is_opposite { Side::Right } else { Side::Left };
        let threshold = match mode {
            Mode::AtMost | Mode::Above => precision.at_most(value),
            Mode::Below | Mode::AtLeast => precision.below(value),
            Mode::Equal | Mode::Unequal | Mode::Member => {
                let (column, set) = sets.set(feature, self.wanted(split).unwrap_or_default(), limits)?;
                return Ok(Node::Category { feature: column, set, left, right, missing });
            }
        };
        Ok(Node::Split { feature, threshold, left, right, missing })
    }

    /// Whether the sums of leaves, one per tree, are probabilities whichever leaves they are. One output is the
    /// probability of the second of two classes.
    pub(crate) fn are_probabilities(&self) -> bool {
        let mut range = [self.base.iter().sum::<f64>(); 2];
        let mut places = vec![false; self.nodes.len()];
        for root in &self.roots {
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            let mut open = vec![*root];
            while let Some(index) = open.pop() {
                if places.get_mut(index).is_none_or(|place| std::mem::replace(place, true)) {
                    return false;
                }
                match self.nodes[index] {
                    Branch::Split(split) => open.extend([split.yes as usize, split.no as usize]),
                    Branch::Leaf(leaf) => {
                        let Some(values) = self.leaves.chunks_exact(self.outputs.max(1)).nth(leaf as usize)
                        else {
                            return false;
                        };
                        let sum = values.iter().sum::<f64>();
                        if values.iter().any(|value| *value < -1e-6) {
                            return false;
                        }
                        (least, most) = (least.min(sum), most.max(sum));
                    }
                }
            }
            range = [range[0] + least, range[1] + most];
        }
        let least = if self.outputs == 1 { -1e-3 } else { 0.999 };
        range[0] >= least && range[1] <= 1.001
    }
}

/// The sets of an ensemble while it is made.
#[expect(clippy::struct_field_names, reason = "the type is named after its main field")]
struct Sets<'a> {
    lookups: &'a BTreeMap<u32, Lookup>,
    sets: Vec<Vec<u64>>,
    words: usize,
    known: HashMap<(u32, Vec<u64>), u32>,
}

impl Sets<'_> {
    /// The column with the index of the feature's value, and the set of the indices of `wanted`.
    fn set(&mut self, feature: u32, wanted: &[f64], limits: &Limits) -> Result<(u32, u32), Problem> {
        let lookup = &self.lookups[&feature];
        let mut set = Vec::new();
        for value in wanted {
            let found = lookup.values.binary_search_by(|known| known.total_cmp(&(value + 0.0)));
            let index = found.map_err(|_| Problem::malformed("a branch tests for a value that is lost"))?;
            if set.len() <= index / 64 {
                set.resize(index / 64 + 1, 0);
            }
            set[index / 64] |= 1 << (index % 64);
        }
        self.words = self.words.saturating_add(set.len() + 1);
        Limits::check("numbers of category sets", self.words, limits.numbers)?;
        let next =
            u32::try_from(self.sets.len()).map_err(|_| Problem::malformed("there are too many sets"))?;
        let set = *self.known.entry((feature, set)).or_insert_with_key(|(_, set)| {
            self.sets.push(set.clone());
            next
        });
        Ok((lookup.column, set))
    }
}
