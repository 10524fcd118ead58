//! The parameters of a random forest, and why training may fail.

use linfa::ParamGuard;
use thiserror::Error;

use crate::data::samples::{CLASSES_MAX, ROWS_MAX};
use crate::ensemble::forest::ForestError;

/// The most trees a forest has: more make no better predictions, only slower ones.
pub const TREES_MAX: u32 = 10_000;

/// How many features a split may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxFeatures {
    /// The square root of their number, rounded down, at least 1.
    Sqrt,
    /// The logarithm to base 2 of their number, rounded down, at least 1.
    Log2,
    /// All of them.
    All,
}

/// The parameters of a random forest, unchecked: [`linfa::ParamGuard`] makes a [`RandomForest`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomForestParams(RandomForest);

/// The parameters of a random forest, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomForest {
    pub(crate) trees: u32,
    pub(crate) max_depth: Option<u32>,
    pub(crate) min_samples_leaf: u32,
    pub(crate) max_features: MaxFeatures,
    pub(crate) bootstrap: bool,
    pub(crate) seed: u64,
}

/// Why training failed.
#[derive(Clone, Debug, Error)]
pub enum TrainError {
    /// A parameter is out of range.
    #[error("{parameter} must be {expected}, but is {found}")]
    Parameter {
        /// Its name.
        parameter: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: u32,
    },
    /// A value is not finite as the 32-bit float that trees compare.
    #[error("row {row} column {feature:?} must be a finite 32-bit number: standardise, or scale the column")]
    NotFinite {
        /// The row, from 1.
        row: usize,
        /// The feature.
        feature: String,
    },
    /// There are no rows.
    #[error("training data has no rows")]
    NoRows,
    /// There are no features.
    #[error("training data has no features")]
    NoFeatures,
    /// Fewer than two classes.
    #[error("training data has one class, but needs at least two")]
    OneClass,
    /// More rows than can be searched.
    #[error("training data has {found} rows, more than {ROWS_MAX}")]
    TooManyRows {
        /// How many.
        found: usize,
    },
    /// More classes than are supported.
    #[error("training data has {found} classes, more than {CLASSES_MAX}")]
    TooManyClasses {
        /// How many, counted from class 0 on.
        found: usize,
    },
    /// The data set has weights.
    #[error("training data has weights, which this forest does not take: leave them out")]
    Weighted,
    /// linfa cannot train without a bootstrap sample.
    #[error("linfa always draws a bootstrap sample: leave bootstrap on, or train without linfa")]
    AlwaysBootstraps,
    /// The trained trees are no valid forest.
    #[error("trained trees are no forest")]
    Model(#[from] ForestError),
    /// linfa failed.
    #[error("linfa failed")]
    Linfa(#[from] linfa::Error),
}

impl RandomForest {
    /// The default parameters, as scikit-learn's: 100 trees of any depth, leaves of one row and more, the square
    /// root of the number of features at each split, a bootstrap sample per tree; seed 0.
    pub fn params() -> RandomForestParams {
        RandomForestParams(Self {
            trees: 100,
            max_depth: None,
            min_samples_leaf: 1,
            max_features: MaxFeatures::Sqrt,
            bootstrap: true,
            seed: 0,
        })
    }
}

impl RandomForestParams {
    /// How many trees: from 1 to [`TREES_MAX`].
    #[must_use]
    pub fn trees(mut self, trees: u32) -> Self {
        self.0.trees = trees;
        self
    }

    /// The depth of the deepest tree: at least 1, or unlimited.
    #[must_use]
    pub fn max_depth(mut self, max_depth: Option<u32>) -> Self {
        self.0.max_depth = max_depth;
        self
    }

    /// How many rows a leaf has at least: from 1. A row that the bootstrap drew twice counts twice.
    #[must_use]
    pub fn min_samples_leaf(mut self, min_samples_leaf: u32) -> Self {
        self.0.min_samples_leaf = min_samples_leaf;
        self
    }

    /// How many features a split may choose from.
    #[must_use]
    pub fn max_features(mut self, max_features: MaxFeatures) -> Self {
        self.0.max_features = max_features;
        self
    }

    /// Whether each tree learns from as many rows drawn with replacement, or from all rows as they are.
    #[must_use]
    pub fn bootstrap(mut self, bootstrap: bool) -> Self {
        self.0.bootstrap = bootstrap;
        self
    }

    /// The seed of all random draws.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }
}

impl ParamGuard for RandomForestParams {
    type Checked = RandomForest;
    type Error = TrainError;

    fn check_ref(&self) -> Result<&RandomForest, TrainError> {
        let RandomForest { trees, max_depth, min_samples_leaf, .. } = self.0;
        let refuse =
            |parameter, expected, found: u32| Err(TrainError::Parameter { parameter, expected, found });
        match (trees, max_depth, min_samples_leaf) {
            (0 | TREES_TOO_MANY.., _, _) => refuse("trees", "from 1 to 10000", trees),
            (_, Some(0), _) => refuse("max_depth", "at least 1, or left out", 0),
            (_, _, 0) => refuse("min_samples_leaf", "at least 1", 0),
            _ => Ok(&self.0),
        }
    }

    fn check(self) -> Result<RandomForest, TrainError> {
        self.check_ref().copied()
    }
}

const TREES_TOO_MANY: u32 = TREES_MAX + 1;
