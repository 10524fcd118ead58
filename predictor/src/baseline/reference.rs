//! The distribution of the training rows by bins, and the population stability index of other rows against it.
//!
//! [`Bins`] describes how a feature is cut into bins, [`psi`] how far two distributions over them are apart.

use canopy_forest::data::samples::Samples;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Features from here on are not watched.
pub const FEATURES_MAX: usize = 50;
/// The most bins a feature has: its deciles.
pub const BINS_MAX: usize = 10;
/// The fewest rows that are worth a bin. Where live rows are like those of training, the index of `b` bins over `n`
/// rows of training and `m` live ones is about `(1/n + 1/m)` times a chi-squared value of `b - 1` degrees of freedom
/// (Yurdakul, Statistical Properties of Population Stability Index, 2018). With this number of rows in each bin, `n` adds 0.05.
const ROWS_PER_BIN: usize = 20;
/// The fewest rows held out for each class, below which the shares of predicted classes say too little. Fewer than
/// for a bin, since rows are held out in equal shares of each class: chance is only in what the model takes for another.
const ROWS_PER_CLASS: usize = 10;

/// How the values of one feature are cut into bins, and how many rows of training each bin has.
///
/// The cuts are quantiles of the training rows: the smallest values that a tenth, two tenths, … of the rows do not
/// exceed, or fewer where there are not 20 rows for each bin. A bin has the values above the cut before it, up to its
/// own. Where one value is several cuts at once, or all there is, it becomes a bin of its own, between those of all
/// smaller and all larger values: so any new value of a feature that was constant, or has few values, shows up. A cut at the
/// largest value cuts nothing off and is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Bins {
    /// The largest value of each bin but the last, which has none.
    edges: Vec<f64>,
    counts: Vec<u64>,
}

/// Why numbers are no reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// The edges do not ascend, or are too many.
    #[error("edges of bins must ascend and be fewer than {BINS_MAX}")]
    Edges,
    /// There is not one count per bin, or there are no rows, or more than 2^53.
    #[error("bins must have a count each, of some rows")]
    Counts,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    edges: Vec<f64>,
    counts: Vec<u64>,
}

impl TryFrom<Parts> for Bins {
    type Error = ReferenceError;

    fn try_from(Parts { edges, counts }: Parts) -> Result<Self, ReferenceError> {
        if edges.len() >= BINS_MAX || !edges.is_sorted_by(|a, b| a < b) || edges.iter().any(|e| e.is_nan()) {
            return Err(ReferenceError::Edges);
        }
        if counts.len() != edges.len() + 1 || total(&counts).is_none_or(|rows| rows == 0) {
            return Err(ReferenceError::Counts);
        }
        Ok(Self { edges, counts })
    }
}

impl From<Bins> for Parts {
    fn from(bins: Bins) -> Self {
        let Bins { edges, counts } = bins;
        Self { edges, counts }
    }
}

/// The sum, where it is small enough for a float to count it.
fn total(counts: &[u64]) -> Option<u64> {
    const COUNTED_MAX: u64 = 1 << 53;
    let sum = counts.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count));
    sum.filter(|&sum| sum <= COUNTED_MAX)
}

impl Bins {
    /// Cuts the values of the training rows into bins. There must be some, and none may be NaN.
    pub fn learn(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let rows = values.len();
        let edges = match (values.first(), values.last()) {
            (Some(&smallest), Some(&largest)) => {
                let bins = (rows / ROWS_PER_BIN).clamp(2, BINS_MAX);
                let cuts: Vec<f64> = (1..bins).map(|cut| values[(cut * rows).div_ceil(bins) - 1]).collect();
                edges(&cuts, smallest, largest)
            }
            (None, _) | (_, None) => Vec::new(),
        };
        // Sorted, so a bin is what lies between two places.
        let upto: Vec<usize> =
            edges.iter().map(|edge| values.partition_point(|value| value <= edge)).chain([rows]).collect();
        let before = [0].into_iter().chain(upto.iter().copied());
        let counts = upto.iter().zip(before).map(|(upto, before)| (upto - before) as u64).collect();
        Self { edges, counts }
    }

    /// The largest value of each bin but the last.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// How many rows of training each bin has.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }
}

fn edges(cuts: &[f64], smallest: f64, largest: f64) -> Vec<f64> {
    let mut edges = Vec::new();
    // They ascend, so what is not larger than the one before is the same.
    for same in cuts.chunk_by(|a, b| a >= b) {
        let value = same[0];
        let wanted = if same.len() > 1 || smallest >= largest {
            [Some(value.next_down()), Some(value)]
        } else {
            [Some(value).filter(|&value| value < largest), None]
        };
        for edge in wanted.into_iter().flatten() {
            // The value just below may be a cut itself.
            if edges.last().is_none_or(|&last| last < edge) {
                edges.push(edge);
            }
        }
    }
    edges
}

/// What rows and answers were like when the model was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// By feature, the first [`FEATURES_MAX`] of them.
    features: Vec<Bins>,
    /// How many of the rows held out were given each class: those it was trained on it has learnt by heart, and
    /// answers about them are surer and more often right than any it will give.
    classes: Vec<u64>,
}

impl Reference {
    /// Learns from the rows of training, whose column for each feature is in `columns`, and from how many of the rows
    /// held out were given each class.
    pub fn learn(train: &Samples, columns: &[usize], classes: Vec<u64>) -> Self {
        let bins = |&column: &usize| Bins::learn(train.rows().map(|row| row[column]).collect());
        Self { features: columns.iter().take(FEATURES_MAX).map(bins).collect(), classes }
    }

    /// Whether it fits a model with these numbers of features and classes.
    pub fn is_of(&self, features: usize, classes: usize) -> bool {
        self.features.len() == features.min(FEATURES_MAX) && self.classes.len() == classes
    }

    /// The bins of each feature that is watched.
    pub fn features(&self) -> &[Bins] {
        &self.features
    }

    /// How many of the rows held out were given each class, where they are enough to say something.
    pub fn classes(&self) -> Option<&[u64]> {
        let enough = (ROWS_PER_CLASS * self.classes.len()) as u64;
        total(&self.classes).filter(|&rows| rows >= enough).map(|_| &self.classes[..])
    }

    /// The edges of the bins, to count live rows with.
    pub fn bin_edges(&self) -> BinEdges {
        let padded = |bins: &Bins| {
            let mut edges = [f64::INFINITY; BINS_MAX - 1];
            edges[..bins.edges.len()].copy_from_slice(&bins.edges);
            edges
        };
        BinEdges { edges: self.features.iter().map(padded).collect(), classes: self.classes.len() }
    }
}

/// The edges of all bins, in the layout that is fastest to compare with.
#[derive(Clone, Debug)]
pub struct BinEdges {
    /// By feature; beyond those there are, infinity, which nothing exceeds.
    edges: Vec<[f64; BINS_MAX - 1]>,
    classes: usize,
}

/// How many rows were in each bin of each feature, and were given each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    bins: Vec<[u64; BINS_MAX]>,
    classes: Vec<u64>,
}

impl BinEdges {
    /// Counts of no rows.
    pub fn no_counts(&self) -> Counts {
        Counts { bins: vec![[0; BINS_MAX]; self.edges.len()], classes: vec![0; self.classes] }
    }

    /// Counts one row and the class it was given.
    #[inline]
    pub fn count(&self, row: &[f64], class: u32, counts: &mut Counts) {
        for ((value, edges), bins) in row.iter().zip(&self.edges).zip(&mut counts.bins) {
            // All edges are looked at: that takes less time than a branch that is guessed wrong.
            let bin = edges.iter().map(|edge| usize::from(value > edge)).sum::<usize>();
            bins[bin] += 1;
        }
        if let Some(count) = counts.classes.get_mut(class as usize) {
            *count += 1;
        }
    }
}

impl Counts {
    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// How many rows were given each class.
    pub fn classes(&self) -> &[u64] {
        &self.classes
    }

    /// How many rows were in each bin, feature by feature; beyond the bins that a feature has there is none.
    pub fn bins(&self) -> &[[u64; BINS_MAX]] {
        &self.bins
    }

    /// Adds other counts over the same bin edges.
    pub fn add(&mut self, other: &Self) {
        let mine = self.bins.as_flattened_mut().iter_mut().chain(&mut self.classes);
        let theirs = other.bins.as_flattened().iter().chain(&other.classes);
        mine.zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bins.as_flattened_mut().fill(0);
        self.classes.fill(0);
    }
}

/// The population stability index (Siddiqi, Credit Risk Scorecards, 2006) of live rows against a reference, both counted
/// over the same bins: the sum of `(live - reference) * ln(live / reference)` over the shares of each bin, which is the
/// symmetric divergence of Kullback and Leibler. It is usually read so: below 0.1 nothing to speak of, from 0.25 on a
/// change that matters.
///
/// A share of 0 has no logarithm. So every bin of both sides gets half a row of the reference more: that is as much as
/// a reference of that size can distinguish from none. A bin that is empty on both sides then adds nothing, and equal
/// shares give exactly 0. Both sides must have rows.
pub fn psi(reference: &[u64], live: &[u64]) -> f64 {
    let (of_reference, of_live) =
        (reference.iter().sum::<u64>().max(1) as f64, live.iter().sum::<u64>().max(1) as f64);
    let more = 0.5 / of_reference;
    let whole = 1.0 + more * reference.len() as f64;
    let share = |count: u64, of: f64| (count as f64 / of + more) / whole;
    let bins = reference.iter().zip(live);
    bins.map(|(&reference, &live)| (share(reference, of_reference), share(live, of_live)))
        .map(|(reference, live)| (live - reference) * (live / reference).ln())
        .sum()
}
