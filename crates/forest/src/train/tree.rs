//! The growth of one tree, without recursion, whose depth the data would decide.

use std::ops::Range;

use crate::ensemble::forest::Node;
use crate::rng::SeededRng;
use crate::train::ordinal::{Table, class, rank};
use crate::train::split_search::{Boundary, best, is_constant};

/// When a tree stops growing, and how many features a split may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_depth: u32,
    pub(crate) min_samples_leaf: u32,
    pub(crate) features_per_split: usize,
}

/// A tree whose leaves have, in place of a distribution, their index in `leaves`.
pub(crate) struct Grown {
    pub(crate) nodes: Vec<Node>,
    /// How many rows of each class each leaf has, one leaf after the other.
    pub(crate) leaves: Vec<u32>,
}

/// Grows a tree on `rows`; a row that occurs twice counts twice.
pub(crate) fn grow(table: &Table, rows: Vec<u32>, limits: Limits, random: SeededRng) -> Grown {
    let features = (0..table.columns.len()).collect();
    let mut growth = Growth { table, limits, random, features, keys: Vec::new(), rows };
    let mut grown = Grown { nodes: vec![UNDECIDED], leaves: Vec::new() };
    let mut pending = vec![Pending { node: 0, rows: 0..growth.rows.len(), depth: 0 }];
    while let Some(Pending { node, rows, depth }) = pending.pop() {
        let counts = growth.counts(rows.clone());
        let Some(BestSplit { feature, boundary }) = growth.split(rows.clone(), &counts, depth) else {
            let leaf = grown.leaves.len() / table.classes;
            grown.nodes[node] = Node::Leaf { distribution: leaf as u32 };
            grown.leaves.extend(counts);
            continue;
        };
        let (left, right) = (grown.nodes.len(), grown.nodes.len() + 1);
        let threshold = table.columns[feature].threshold(boundary.lower, boundary.upper);
        grown.nodes[node] =
            Node::Split { feature: feature as u32, threshold, left: left as u32, right: right as u32 };
        grown.nodes.extend([UNDECIDED, UNDECIDED]);
        let middle = growth.partition(rows.clone(), feature, boundary.lower);
        pending.push(Pending { node: right, rows: middle..rows.end, depth: depth + 1 });
        pending.push(Pending { node: left, rows: rows.start..middle, depth: depth + 1 });
    }
    grown
}

/// Placeholder for a node that has not been grown yet.
const UNDECIDED: Node = Node::Leaf { distribution: u32::MAX };

/// A node that has not been grown yet, with its range of the rows.
struct Pending {
    node: usize,
    rows: Range<usize>,
    depth: u32,
}

struct BestSplit {
    feature: usize,
    boundary: Boundary,
}

struct Growth<'a> {
    table: &'a Table,
    limits: Limits,
    random: SeededRng,
    /// All features, in the order that the last draw left them in.
    features: Vec<usize>,
    /// Buffer for the keys of the rows of a node.
    keys: Vec<u32>,
    /// The rows; those of one node are contiguous.
    rows: Vec<u32>,
}

impl Growth<'_> {
    fn counts(&self, rows: Range<usize>) -> Vec<u32> {
        let mut counts = vec![0; self.table.classes];
        let keys = &self.table.columns[0].keys;
        self.rows[rows].iter().for_each(|&row| counts[class(keys[row as usize])] += 1);
        counts
    }

    /// The best split by randomly drawn features, if the node may be split and there is a split.
    fn split(&mut self, rows: Range<usize>, counts: &[u32], depth: u32) -> Option<BestSplit> {
        let is_pure = counts.iter().filter(|&&count| count > 0).count() < 2;
        let is_small = (rows.len() as u64) < 2 * u64::from(self.limits.min_samples_leaf);
        if is_pure || is_small || depth >= self.limits.max_depth {
            return None;
        }
        let mut draw = Draw::new(&mut self.features, &mut self.random);
        let mut searched = 0;
        let mut found: Option<BestSplit> = None;
        while searched < self.limits.features_per_split {
            let Some(feature) = draw.next() else { break };
            let column = &self.table.columns[feature].keys;
            self.keys.clear();
            self.keys.extend(self.rows[rows.clone()].iter().map(|&row| column[row as usize]));
            // A feature with one value in all rows has no boundary: another one is drawn in its place.
            if is_constant(&self.keys) {
                continue;
            }
            searched += 1;
            let boundary = best(&mut self.keys, counts, self.limits.min_samples_leaf);
            if let Some(boundary) = boundary
                && found.as_ref().is_none_or(|found| boundary.purity > found.boundary.purity)
            {
                found = Some(BestSplit { feature, boundary });
            }
        }
        found
    }

    /// Moves the rows that go left before those that go right, and returns where the latter begin.
    fn partition(&mut self, rows: Range<usize>, feature: usize, lower: u32) -> usize {
        let keys = &self.table.columns[feature].keys;
        let mut middle = rows.start;
        for place in rows {
            if rank(keys[self.rows[place] as usize]) <= lower {
                self.rows.swap(place, middle);
                middle += 1;
            }
        }
        middle
    }
}

/// Features in random order, each at most once (Fisher and Yates, one step per draw).
struct Draw<'a> {
    features: &'a mut [usize],
    drawn: usize,
    random: &'a mut SeededRng,
}

impl<'a> Draw<'a> {
    fn new(features: &'a mut [usize], random: &'a mut SeededRng) -> Self {
        Self { features, drawn: 0, random }
    }
}

impl Iterator for Draw<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let left = self.features.len() - self.drawn;
        if left == 0 {
            return None;
        }
        self.features.swap(self.drawn, self.drawn + self.random.below(left));
        self.drawn += 1;
        self.features.get(self.drawn - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;
    use crate::train::ordinal::Column;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_depth: u32::MAX, min_samples_leaf: 1, features_per_split: 1 };

    /// A table of these columns.
    fn table(columns: &[&[f32]], classes: &[u8]) -> Table {
        Table {
            columns: columns.iter().map(|values| Column::new(values, classes)).collect(),
            classes: classes.iter().max().map_or(0, |&class| usize::from(class) + 1),
            rows: classes.len(),
        }
    }

    fn grown(table: &Table, limits: Limits, seed: u64) -> Grown {
        grow(table, (0..table.rows as u32).collect(), limits, SeededRng::new(seed, Purpose::Tree(0)))
    }

    /// How often each of `features` features is the root's.
    fn roots(table: &Table, limits: Limits) -> Vec<u32> {
        let mut counts = vec![0; table.columns.len()];
        for seed in 0..4000 {
            match grown(table, limits, seed).nodes[0] {
                Node::Split { feature, .. } => counts[feature as usize] += 1,
                Node::Leaf { .. } => panic!("the root of seed {seed} is a leaf"),
            }
        }
        counts
    }

    #[test]
    fn a_tree_grows_until_its_leaves_are_pure() {
        let table = table(&[&[1.0, 2.0, 3.0, 4.0], &[7.0, 7.0, 9.0, 9.0]], &[0, 1, 1, 0]);
        let Grown { nodes, leaves } = grown(&table, Limits { features_per_split: 2, ..LIMITS }, 1);
        let split = |feature, threshold, left| Node::Split { feature, threshold, left, right: left + 1 };
        let ends = |distribution| Node::Leaf { distribution };
        assert_eq!(nodes, [split(0, 1.5, 1), ends(0), split(0, 3.5, 3), ends(1), ends(2)]);
        assert_eq!(leaves, [1, 0, 0, 2, 1, 0]);
    }

    #[test]
    fn depth_and_size_of_leaves_are_limited() {
        let values: Vec<f32> = (0..64_u8).map(f32::from).collect();
        let classes: Vec<u8> = (0..64).map(|row| row % 2).collect();
        let table = table(&[&values], &classes);
        for (max_depth, leaves) in [(1, 2), (2, 3), (3, 4)] {
            let grown = grown(&table, Limits { max_depth, ..LIMITS }, 1);
            assert_eq!(grown.leaves.len() / 2, leaves, "depth {max_depth}");
        }
        for min_samples_leaf in [1, 5, 32, 33] {
            let grown = grown(&table, Limits { min_samples_leaf, ..LIMITS }, 1);
            assert!(grown.leaves.chunks(2).all(|leaf| leaf.iter().sum::<u32>() >= min_samples_leaf));
            assert_eq!(grown.leaves.len() == 2, min_samples_leaf == 33);
        }
    }

    #[test]
    fn a_chain_of_thousands_of_questions_does_not_overflow_the_stack() {
        let values: Vec<f32> = (0..4000_u16).map(f32::from).collect();
        let classes: Vec<u8> = (0..4000_u16).map(|row| (row % 2) as u8).collect();
        assert_eq!(grown(&table(&[&values], &classes), LIMITS, 1).leaves.len(), 2 * 4000);
    }

    #[test]
    fn equally_good_features_are_split_by_equally_often() {
        let table = table(&[[1.0, 2.0].as_slice(); 4], &[0, 1]);
        for features_per_split in 1..=4 {
            let counts = roots(&table, Limits { features_per_split, ..LIMITS });
            assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn the_best_feature_is_split_by_as_often_as_it_is_drawn() {
        let good: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
        let bad: [f32; 4] = [1.0, 3.0, 2.0, 4.0];
        let table = table(&[&bad, &bad, &good, &bad], &[0, 0, 1, 1]);
        for (features_per_split, expected) in [(1, 1000), (2, 2000), (3, 3000), (4, 4000)] {
            let count = roots(&table, Limits { features_per_split, ..LIMITS })[2];
            assert!(count.abs_diff(expected) < 130, "{count} of {features_per_split}");
        }
    }

    #[test]
    fn constant_features_do_not_count_as_drawn() {
        let good: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
        let bad: [f32; 4] = [1.0, 3.0, 2.0, 4.0];
        let constant = [5.0; 4];
        let table = table(&[&constant, &bad, &constant, &good, &constant], &[0, 0, 1, 1]);
        assert_eq!(roots(&table, Limits { features_per_split: 2, ..LIMITS }), [0, 0, 0, 4000, 0]);
        let counts = roots(&table, LIMITS);
        assert!(counts[3].abs_diff(2000) < 130, "{counts:?}");
    }

    #[test]
    fn rows_that_no_feature_separates_end_in_one_leaf() {
        let grown = grown(&table(&[&[1.0, 1.0, 1.0], &[2.0, 2.0, 2.0]], &[0, 1, 1]), LIMITS, 1);
        assert_eq!(grown.nodes, [Node::Leaf { distribution: 0 }]);
        assert_eq!(grown.leaves, [1, 2]);
    }

    proptest! {
        #[test]
        fn a_draw_has_every_feature_once(features in 0..40_usize, seed in any::<u64>(), draws in 1..4) {
            let mut order: Vec<usize> = (0..features).collect();
            let mut random = SeededRng::new(seed, Purpose::Tree(0));
            for _ in 0..draws {
                let mut drawn: Vec<usize> = Draw::new(&mut order, &mut random).collect();
                drawn.sort_unstable();
                prop_assert_eq!(drawn, (0..features).collect::<Vec<_>>());
            }
        }

        #[test]
        fn every_row_ends_in_the_leaf_that_counts_it(
            rows in prop::collection::vec((prop::array::uniform3(-3..3_i8), 0..3_u8), 1..40),
            limits in (0..6_u32, 1..4_u32, 1..4_usize),
            seed in any::<u64>(),
        ) {
            let columns: Vec<Vec<f32>> =
                (0..3).map(|column| rows.iter().map(|row| f32::from(row.0[column])).collect()).collect();
            let classes: Vec<u8> = rows.iter().map(|row| row.1).collect();
            let table = table(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>(), &classes);
            let (max_depth, min_samples_leaf, features_per_split) = limits;
            let grown = grown(&table, Limits { max_depth, min_samples_leaf, features_per_split }, seed);
            let mut leaves = vec![0; grown.leaves.len()];
            for (row, &class) in classes.iter().enumerate() {
                let mut at = 0;
                let leaf = loop {
                    match grown.nodes[at] {
                        Node::Leaf { distribution } => break distribution as usize,
                        Node::Split { feature, threshold, left, right } => {
                            let goes_left = columns[feature as usize][row] <= threshold;
                            at = if goes_left { left } else { right } as usize;
                        }
                    }
                };
                leaves[leaf * table.classes + usize::from(class)] += 1;
            }
            prop_assert_eq!(leaves, grown.leaves);
        }
    }
}
