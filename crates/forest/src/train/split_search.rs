//! The search for the best split of a node's rows by one feature. It sums integers only, because a sum of floats would
//! depend on the order of the rows.

use crate::train::ordinal::{class, rank};

/// Where to split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Boundary {
    /// The highest rank that goes left.
    pub(crate) lower: u32,
    /// The lowest rank that goes right.
    pub(crate) upper: u32,
    /// The larger, the purer both sides: ∑ left² / rows left + ∑ right² / rows right over the counts of each
    /// class. It orders splits of the same rows as the decrease of the gini impurity does.
    pub(crate) purity: f64,
}

/// Whether all keys have the same rank, so that there is no boundary.
pub(crate) fn is_constant(keys: &[u32]) -> bool {
    keys.windows(2).all(|pair| rank(pair[0]) == rank(pair[1]))
}

/// How many rows of each class there are on one side, and the sum of the squares of that.
struct Side {
    counts: Vec<u32>,
    squares: u64,
    rows: u32,
}

impl Side {
    fn add(&mut self, class: usize) {
        self.squares += 2 * u64::from(self.counts[class]) + 1;
        self.counts[class] += 1;
        self.rows += 1;
    }

    fn remove(&mut self, class: usize) {
        self.counts[class] -= 1;
        self.rows -= 1;
        self.squares -= 2 * u64::from(self.counts[class]) + 1;
    }

    fn purity(&self) -> f64 {
        self.squares as f64 / f64::from(self.rows)
    }
}

/// Finds the best boundary that leaves at least `min_rows` rows on each side, the first of several equal ones.
/// `counts` are the rows of each class; `keys` end up sorted.
pub(crate) fn best(keys: &mut [u32], counts: &[u32], min_rows: u32) -> Option<Boundary> {
    keys.sort_unstable();
    let squares = counts.iter().map(|&count| u64::from(count).pow(2)).sum();
    let mut right = Side { counts: counts.to_vec(), squares, rows: keys.len() as u32 };
    let mut left = Side { counts: vec![0; counts.len()], squares: 0, rows: 0 };
    let mut best: Option<Boundary> = None;
    for pair in keys.windows(2) {
        let (lower, upper) = (rank(pair[0]), rank(pair[1]));
        left.add(class(pair[0]));
        right.remove(class(pair[0]));
        if lower == upper || left.rows < min_rows || right.rows < min_rows {
            continue;
        }
        let purity = left.purity() + right.purity();
        if best.is_none_or(|best| purity > best.purity) {
            best = Some(Boundary { lower, upper, purity });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(cells: &[(u32, u32)]) -> Vec<u32> {
        cells.iter().map(|(rank, class)| rank << 8 | class).collect()
    }

    fn counts(cells: &[(u32, u32)]) -> Vec<u32> {
        (0..3).map(|class| cells.iter().filter(|cell| cell.1 == class).count() as u32).collect()
    }

    fn found(cells: &[(u32, u32)], min_rows: u32) -> Option<(u32, u32)> {
        best(&mut keys(cells), &counts(cells), min_rows).map(|boundary| (boundary.lower, boundary.upper))
    }

    /// The weighted gini impurity of both sides by its definition (Breiman et al. 1984).
    fn impurity(cells: &[(u32, u32)], lower: u32) -> f64 {
        let side = |is_left: bool| {
            let side: Vec<_> = cells.iter().copied().filter(|cell| (cell.0 <= lower) == is_left).collect();
            let shares = counts(&side).into_iter().map(|count| f64::from(count) / side.len() as f64);
            side.len() as f64 * (1.0 - shares.map(|share| share * share).sum::<f64>())
        };
        (side(true) + side(false)) / cells.len() as f64
    }

    #[test]
    fn the_boundary_between_two_classes_is_found() {
        assert_eq!(found(&[(9, 1), (2, 0), (4, 0), (7, 1)], 1), Some((4, 7)));
        assert_eq!(found(&[(9, 1), (2, 0), (4, 0), (7, 1), (7, 0)], 1), Some((4, 7)));
    }

    #[test]
    fn of_equal_boundaries_the_first_is_taken() {
        assert_eq!(found(&[(1, 0), (2, 1), (3, 1), (4, 0)], 1), Some((1, 2)));
    }

    #[test]
    fn a_boundary_may_gain_nothing_but_must_separate_and_leave_enough_rows() {
        assert_eq!(found(&[(1, 0), (1, 1), (2, 0), (2, 1)], 1), Some((1, 2)));
        assert_eq!(found(&[(1, 0), (1, 1), (1, 2)], 1), None);
        assert_eq!(found(&[(1, 0), (2, 1), (3, 1), (4, 1)], 2), Some((2, 3)));
        assert_eq!(found(&[(1, 0), (2, 1), (3, 1)], 2), None);
    }

    #[test]
    fn only_keys_of_one_rank_are_constant() {
        assert!(is_constant(&keys(&[(3, 2), (3, 0), (3, 1)])));
        assert!(!is_constant(&keys(&[(3, 0), (3, 0), (2, 0)])));
    }

    proptest! {
        #[test]
        fn no_boundary_is_purer_than_the_one_found(
            cells in prop::collection::vec((0..8_u32, 0..3_u32), 2..30), min_rows in 1..4_u32,
        ) {
            let left = |lower: u32| cells.iter().filter(|cell| cell.0 <= lower).count() as u32;
            let allowed = (0..7).filter(|&lower| {
                left(lower) >= min_rows && cells.len() as u32 - left(lower) >= min_rows
            });
            let least = allowed.map(|lower| impurity(&cells, lower)).reduce(f64::min);
            let found = found(&cells, min_rows).map(|(lower, _)| impurity(&cells, lower));
            match (found, least) {
                (Some(found), Some(least)) => prop_assert!((found - least).abs() < 1e-12, "{found} {least}"),
                (found, least) => prop_assert_eq!(found, least),
            }
        }
    }
}
