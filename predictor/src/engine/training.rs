//! Training of an engine: which trainer, with which parameters, on which numbers.

use canopy_contract::serving::{self, Algorithm, Train};
use canopy_forest::data::precision::Merged;
use canopy_forest::data::samples::Samples;
use canopy_forest::ensemble::forest::{Forest, Node, RawForest};
use canopy_forest::narrow::{Narrowed, narrow};
use canopy_forest::scale::{ScaleError, Scaler};
use canopy_forest::train::linfa_backend;
use canopy_forest::train::parameters::{MaxFeatures, RandomForest, RandomForestParams, TrainError};
use serde::Serialize;

use crate::engine::payload::{Payload, PayloadError};

/// The program that trains.
#[derive(Serialize, Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Trainer {
    /// Canopy's own trainer: the same model for a seed, features drawn at each split.
    #[default]
    Native,
    /// linfa's trees and ensemble.
    Linfa,
}

/// A trained model, in the order of the data's columns and classes.
#[derive(Clone, Debug)]
pub struct Trained {
    /// What is done to each feature first.
    pub scaler: Scaler,
    /// The features in which different values became equal.
    pub merged: Vec<Merged>,
    model: Forest,
}

/// Why nothing was trained.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrainingError {
    /// A feature cannot be scaled.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// The trainer refused the data or the parameters.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Trains on `samples` as `config` says, on the threads of the current rayon pool. `progress` is called after each step
/// with the number of steps done and of all steps.
pub fn train(
    trainer: Trainer,
    config: &Train,
    samples: &Samples,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Trained, TrainingError> {
    let Algorithm::RandomForest(algorithm) = &config.algorithm;
    let parameters = parameters(algorithm);
    match trainer {
        Trainer::Native => {
            // A forest uses only the order of values, so standardising would have no effect. Values are only kept apart
            // as 32-bit numbers.
            let narrowed = narrow(samples)?;
            let model = parameters.train(&narrowed.transform(samples), progress)?;
            let Narrowed { scaler, merged } = narrowed;
            Ok(Trained { scaler, merged, model })
        }
        Trainer::Linfa => {
            // linfa takes values that differ by less than 0.00001 as equal.
            let scaler = if config.standardize {
                Scaler::fit(samples)?
            } else {
                Scaler::identity(samples.features().len())
            };
            let model = linfa_backend::train(&parameters, &scaler.transform(samples))?;
            Ok(Trained { scaler, merged: Vec::new(), model })
        }
    }
}

fn parameters(algorithm: &serving::RandomForest) -> RandomForestParams {
    let serving::RandomForest { trees, max_depth, min_samples_leaf, max_features, bootstrap, seed } =
        *algorithm;
    let max_features = match max_features {
        serving::MaxFeatures::Sqrt => MaxFeatures::Sqrt,
        serving::MaxFeatures::Log2 => MaxFeatures::Log2,
        serving::MaxFeatures::All => MaxFeatures::All,
    };
    RandomForest::params()
        .trees(trees)
        .max_depth(max_depth)
        .min_samples_leaf(min_samples_leaf)
        .max_features(max_features)
        .bootstrap(bootstrap)
        .seed(seed)
}

impl Trained {
    /// The model for rows in another order: `columns` has, for each feature of the new order, its column in the data, and
    /// `labels`, for each class of the new order, its index in the data.
    pub fn reordered(self, columns: &[usize], labels: &[usize]) -> Result<Payload, PayloadError> {
        let mut feature_of = vec![0; columns.len()];
        for (feature, &column) in columns.iter().enumerate() {
            feature_of[column] = feature as u32;
        }
        let mut raw = RawForest::from(self.model);
        for node in raw.trees.iter_mut().flatten() {
            if let Node::Split { feature, .. } = node {
                *feature = feature_of[*feature as usize];
            }
        }
        for distribution in raw.distributions.chunks_exact_mut(labels.len()) {
            let shares = distribution.to_vec();
            for (share, &label) in distribution.iter_mut().zip(labels) {
                *share = shares[label];
            }
        }
        Payload::of_forest(raw)
    }
}
