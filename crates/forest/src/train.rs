//! Training of a random forest (Breiman 2001) with the conventions of scikit-learn, but for one: a constant feature
//! does not count as drawn at a split, where scikit-learn counts it once another one is found.
//!
//! Comes in: samples and parameters. Goes out: a [`Forest`], the same for a seed whatever the number of threads.
//! Never: a value that is not finite; a panic, whatever the data.

mod rank;
mod search;
mod grow;

use std::sync::atomic::{AtomicUsize, Ordering};

use linfa::dataset::{AsSingleTargets, DatasetBase};
use linfa::{ParamGuard, traits::Fit};
use ndarray::{ArrayBase, ArrayView1, ArrayView2, Data, Ix2};
use rayon::prelude::*;
use thiserror::Error;

use crate::data::{CLASSES_MAX, ROWS_MAX, Samples};
use crate::model::{Builder, Forest, ModelError, Node};
use crate::random::{Purpose, Random};
use grow::{Grown, Limits, grow};
use rank::{Column, Table};

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
    max_features: MaxFeatures,
    pub(crate) bootstrap: bool,
    pub(crate) seed: u64,
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
    #[error("training data has {found} classes, more than {CLASSES_MAX}")]
    TooManyClasses {
        /// How many, counted from class 0 on.
        found: usize,
    },
    /// The data set has weights.
    #[error("training data has weights, which this forest does not take: leave them out")]
    Weighted,
    /// linfa has no way to leave the bootstrap out.
    #[error("linfa always draws a bootstrap sample: leave bootstrap on, or train without linfa")]
    AlwaysBootstraps,
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
    /// How many trees: from 1 to [`TREES_MAX`].
    #[must_use]
    pub fn trees(mut self, trees: u32) -> Self {
        self.0.trees = trees;
        self
    }

    /// How many questions a row is asked at most: from 1, or as many as it takes.
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
        let (dataset, classes) = (samples.dataset(), samples.classes().len());
        self.check_ref()?.fit_with_progress(&dataset, classes, progress)
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

impl<D: Data<Elem = f64>, T: AsSingleTargets<Elem = usize>> Fit<ArrayBase<D, Ix2>, T, TrainError>
    for RandomForest
{
    type Object = Forest;

    /// Trains a forest on records of shape (rows, features) and targets of shape (rows): classes from 0 on.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Forest, TrainError> {
        let classes = dataset.as_single_targets().iter().max().map_or(0, |&class| class.saturating_add(1));
        self.fit_with_progress(dataset, classes, &|_, _| {})
    }
}

impl RandomForest {
    fn fit_with_progress<D: Data<Elem = f64>, T: AsSingleTargets<Elem = usize>>(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
        classes: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Forest, TrainError> {
        if dataset.weights().is_some() {
            return Err(TrainError::Weighted);
        }
        let table =
            table(dataset.records.view(), dataset.as_single_targets(), classes, dataset.feature_names())?;
        let total = self.trees as usize;
        let done = AtomicUsize::new(0);
        let trees: Vec<Grown> = (0..u64::from(self.trees))
            .into_par_iter()
            .map(|tree| {
                let grown = self.tree(&table, tree);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                grown
            })
            .collect();
        Ok(assemble(trees, &table)?)
    }

    /// Each tree draws from a stream of its own, so that it does not matter which thread grows it, and when.
    fn tree(&self, table: &Table, tree: u64) -> Grown {
        let mut random = Random::new(self.seed, Purpose::Tree(tree));
        let rows = if self.bootstrap {
            (0..table.rows).map(|_| random.below(table.rows) as u32).collect()
        } else {
            (0..table.rows as u32).collect()
        };
        let features = table.columns.len();
        let features_per_split = match self.max_features {
            MaxFeatures::Sqrt => features.isqrt(),
            MaxFeatures::Log2 => features.ilog2() as usize,
            MaxFeatures::All => features,
        };
        let limits = Limits {
            max_depth: self.max_depth.unwrap_or(u32::MAX),
            min_samples_leaf: self.min_samples_leaf,
            features_per_split: features_per_split.max(1),
        };
        grow(table, rows, limits, random)
    }
}

/// Brings records into the form that trees are grown on, as far as they can be learned from.
fn table(
    records: ArrayView2<'_, f64>,
    targets: ArrayView1<'_, usize>,
    classes: usize,
    names: &[String],
) -> Result<Table, TrainError> {
    let (rows, features) = records.dim();
    if rows != targets.len() {
        return Err(linfa::Error::MismatchedShapes(rows, targets.len()).into());
    }
    match (targets.first(), features) {
        (None, _) => return Err(TrainError::NoRows),
        (_, 0) => return Err(TrainError::NoFeatures),
        _ if rows > ROWS_MAX => return Err(TrainError::TooManyRows { found: rows }),
        _ if classes > CLASSES_MAX => return Err(TrainError::TooManyClasses { found: classes }),
        (Some(first), _) if targets.iter().all(|class| class == first) => return Err(TrainError::OneClass),
        _ => {}
    }
    let targets: Vec<u8> = targets.iter().map(|&class| class as u8).collect();
    let column = |(index, values): (usize, ArrayView1<'_, f64>)| {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Column::new(&values, &targets)),
            Some(row) => {
                let feature = names.get(index).cloned().unwrap_or_else(|| index.to_string());
                Err(TrainError::NotFinite { row: row + 1, feature })
            }
        }
    };
    let columns = records.columns().into_iter().enumerate().map(column).collect::<Result<_, _>>()?;
    Ok(Table { columns, classes, rows })
}

/// Turns the rows in each leaf into the share of each class.
fn assemble(trees: Vec<Grown>, table: &Table) -> Result<Forest, ModelError> {
    let mut builder = Builder::new(table.columns.len(), table.classes);
    for Grown { mut nodes, leaves } in trees {
        let distributions = leaves.chunks_exact(table.classes).map(|counts| {
            let rows: u32 = counts.iter().sum();
            let shares: Vec<f64> = counts.iter().map(|&count| f64::from(count) / f64::from(rows)).collect();
            builder.distribution(&shares)
        });
        let indices: Vec<u32> = distributions.collect();
        for node in &mut nodes {
            if let Node::Leaf { distribution } = node {
                *distribution = indices[*distribution as usize];
            }
        }
        builder.push(nodes);
    }
    builder.finish()
}
