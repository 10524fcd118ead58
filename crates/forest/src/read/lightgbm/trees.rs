//! The trees of a `LightGBM` file.

use std::ops::Range;

use crate::ensemble::form::{Node, Side};
use crate::read::builder::Builder;
use crate::read::error::Problem;
use crate::read::lightgbm::sections::Section;
use crate::read::whole::whole;

/// The largest value that counts as zero where zero is missing: `kZeroThreshold`, a 32-bit float.
pub(super) const ZERO: f64 = 1e-35_f32 as f64;

/// The threshold that separates the same values if those from `-ZERO` to `ZERO` are not replaced by 0. `LightGBM` replaces
/// them when it is given a row (`RowPairFunctionFromDenseMatric` in its sources).
fn without_zeroing(threshold: f64) -> f64 {
    if (-ZERO..0.0).contains(&threshold) {
        (-ZERO).next_down()
    } else if (0.0..ZERO).contains(&threshold) {
        ZERO
    } else {
        threshold
    }
}

/// Bits of `decision_type`.
const IS_CATEGORY: u8 = 1;
const DEFAULT_LEFT: u8 = 2;

/// Which values of each feature are missing. `LightGBM` decides it per feature, but writes it with each node.
pub(super) struct ZeroColumns(Vec<Option<bool>>);

impl ZeroColumns {
    pub(super) fn new(features: usize) -> Self {
        Self(vec![None; features])
    }

    /// Notes that a node takes zero of this feature for missing, or does not.
    fn note(&mut self, feature: u32, is_zero_missing: bool) -> Result<(), Problem> {
        let Some(known) = self.0.get_mut(feature as usize) else {
            let inputs = self.0.len();
            return Err(Problem::malformed(format!("feature {feature} is split, but there are {inputs}")));
        };
        if *known.get_or_insert(is_zero_missing) == is_zero_missing {
            return Ok(());
        }
        Err(Problem::unsupported(
            format!("zero that is missing in some nodes of feature {feature} and not in others"),
            "train all rounds with the same zero_as_missing",
        ))
    }

    /// The features of which zero is missing.
    pub(super) fn columns(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|feature| self.0[*feature] == Some(true)).collect()
    }
}

/// The lists of one tree, each with one entry per split.
struct Splits {
    features: Vec<u32>,
    thresholds: Vec<f64>,
    decisions: Vec<u8>,
    left: Vec<i64>,
    right: Vec<i64>,
    /// The indices of the tree's category sets among all sets.
    sets: Range<u32>,
}

/// Adds a tree that counts for one output.
pub(super) fn add(
    section: &Section<'_>,
    builder: &mut Builder,
    output: usize,
    zeros: &mut ZeroColumns,
) -> Result<(), Problem> {
    if section.optional("is_linear").is_some_and(|value| value != "0") {
        return Err(Problem::unsupported("linear_tree", "train without linear_tree"));
    }
    let leaves: usize = section.number("num_leaves")?;
    if leaves == 0 {
        return Err(Problem::malformed("`num_leaves` must be at least 1, got 0"));
    }
    let values: Vec<f64> = section.numbers("leaf_value", leaves)?;
    let splits = Splits::read(section, leaves - 1, builder)?;
    // Splits have the numbers from 0 on, and leaves those after them.
    builder.add(2 * leaves - 1, |builder, index| match index.checked_sub(leaves - 1) {
        Some(leaf) => builder.leaf(output, values[leaf]),
        None => splits.node(index, leaves, zeros),
    })
}

impl Splits {
    fn read(section: &Section<'_>, count: usize, builder: &mut Builder) -> Result<Self, Problem> {
        Ok(Self {
            features: section.numbers("split_feature", count)?,
            thresholds: section.numbers("threshold", count)?,
            decisions: section.numbers("decision_type", count)?,
            left: section.numbers("left_child", count)?,
            right: section.numbers("right_child", count)?,
            sets: sets(section, builder)?,
        })
    }

    /// The node of a split; `leaves` is the number of leaves of the tree.
    fn node(&self, index: usize, leaves: usize, zeros: &mut ZeroColumns) -> Result<Node, Problem> {
        let (feature, threshold, decision) =
            (self.features[index], self.thresholds[index], self.decisions[index]);
        let (left, right) = (child(self.left[index], leaves)?, child(self.right[index], leaves)?);
        if decision & IS_CATEGORY != 0 {
            zeros.note(feature, false)?;
            let set = self.set(threshold)?;
            return Ok(Node::Category { feature, set, left, right, missing: Side::Right });
        }
        let default = if decision & DEFAULT_LEFT != 0 { Side::Left } else { Side::Right };
        let missing = match decision >> 2 {
            // Nothing is missing: NaN counts as 0.
            0 if 0.0 <= threshold => Side::Left,
            0 => Side::Right,
            1 | 2 => default,
            _ => {
                return Err(Problem::malformed(format!(
                    "`decision_type` has {decision}, which does not exist"
                )));
            }
        };
        zeros.note(feature, decision >> 2 == 1)?;
        Ok(Node::Split { feature, threshold: without_zeroing(threshold), left, right, missing })
    }

    /// The index of a category set of the tree among all sets.
    fn set(&self, index: f64) -> Result<u32, Problem> {
        if let Some(set) = whole(index).and_then(|index| self.sets.clone().nth(index)) {
            return Ok(set);
        }
        let sets = self.sets.len();
        Err(Problem::malformed(format!("category set {index} is used, but there are {sets}")))
    }
}

/// Adds the category sets of a tree.
fn sets(section: &Section<'_>, builder: &mut Builder) -> Result<Range<u32>, Problem> {
    let first = builder.sets();
    let count: usize = section.number("num_cat")?;
    if count > 0 {
        // Where the words of each set start, and at the end where the last one ends.
        let boundaries: Vec<usize> = section.numbers("cat_boundaries", count.saturating_add(1))?;
        let words = section.numbers("cat_threshold", boundaries.last().copied().unwrap_or_default())?;
        for bounds in boundaries.windows(2) {
            let words: Option<&[u32]> = words.get(bounds[0]..bounds[1]);
            let words = words.ok_or_else(|| Problem::malformed("`cat_boundaries` must not decrease"))?;
            let join = |pair: &[u32]| pair.iter().rev().fold(0, |word, half| word << 32 | u64::from(*half));
            builder.set(words.chunks(2).map(join).collect());
        }
    }
    Ok(first..builder.sets())
}

/// The number of a child among all nodes: of a leaf, `LightGBM` writes the complement of its index.
fn child(child: i64, leaves: usize) -> Result<u32, Problem> {
    let fault = || Problem::malformed(format!("child {child} does not exist"));
    let splits = i64::try_from(leaves).map_err(|_| fault())? - 1;
    // A split is no leaf: an index beyond the splits would name one.
    if child >= splits {
        return Err(fault());
    }
    let index = if child >= 0 { child } else { (!child).saturating_add(splits) };
    u32::try_from(index).map_err(|_| fault())
}
