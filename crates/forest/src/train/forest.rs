//! Training of a random forest (Breiman 2001) with the conventions of scikit-learn, except for one: a constant feature
//! does not count as drawn at a split, where scikit-learn counts it once another one is found.
//!
//! A seed gives the same forest whatever the number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use linfa::dataset::{AsSingleTargets, DatasetBase};
use linfa::{ParamGuard, traits::Fit};
use ndarray::{ArrayBase, ArrayView1, ArrayView2, Data, Ix2};
use rayon::prelude::*;

use crate::data::samples::{CLASSES_MAX, ROWS_MAX, Samples};
use crate::ensemble::forest::{Builder, Forest, ForestError, Node};
use crate::rng::{Purpose, SeededRng};
use crate::train::ordinal::{Column, Table};
use crate::train::parameters::{MaxFeatures, RandomForest, RandomForestParams, TrainError};
use crate::train::tree::{Grown, Limits, grow};

impl RandomForestParams {
    /// Checks the parameters and trains a forest on the threads of the current rayon pool. After each tree
    /// `progress` is called with the number of trees done and of all trees, from several threads.
    pub fn train(
        &self,
        samples: &Samples,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Forest, TrainError> {
        let (dataset, classes) = (samples.dataset(), samples.classes().len());
        self.check_ref()?.fit_with_progress(&dataset, classes, progress)
    }
}

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
        let mut random = SeededRng::new(self.seed, Purpose::Tree(tree));
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

/// Brings records into the form that trees are grown on, or refuses them.
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
fn assemble(trees: Vec<Grown>, table: &Table) -> Result<Forest, ForestError> {
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
