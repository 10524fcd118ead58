//! The alternative trainer: linfa-ensemble and linfa-trees, whose trees are converted into a [`Forest`]. Data and depths
//! that would make linfa abort are refused.

use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use linfa_ensemble::EnsembleLearnerParams;
use linfa_trees::{DecisionTree, TreeNode};
use ndarray::Ix1;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::data::samples::Samples;
use crate::ensemble::forest::{Builder, Forest, ForestError, Node, Tree};
use crate::train::parameters::{RandomForest, RandomForestParams, TrainError};

/// A random forest as linfa grows it.
pub type LinfaForest = linfa_ensemble::RandomForest<f64, usize>;

/// The depth of the deepest tree: linfa grows, prunes and frees trees by recursion, so deeper ones could overflow the
/// stack.
const DEPTH_MAX: u32 = 128;

/// Trains with linfa-ensemble, on samples that should be standardised: linfa takes values for equal that differ by
/// less than 0.00001.
///
/// Of the parameters it takes the number of trees, the depth (128 at most), the size of a leaf and the seed.
/// linfa draws its features per tree instead of per split, so the number per split has no meaning here; as many are
/// drawn as there are, with replacement. A leaf of linfa votes for one class, so a probability is a share of votes.
/// linfa breaks ties by chance that no seed decides: two forests of one seed may differ in some nodes.
pub fn train(parameters: &RandomForestParams, samples: &Samples) -> Result<Forest, TrainError> {
    let dataset = rounded(samples)?;
    let grown = grow(parameters.check_ref()?, &dataset)?;
    Ok(flatten(&grown, samples.features().len(), samples.classes().len())?)
}

/// The samples as linfa takes them, with every value rounded to 32 bits: our trees compare such values only, and
/// must give the answers that linfa's would.
fn rounded(samples: &Samples) -> Result<Dataset<f64, usize, Ix1>, TrainError> {
    // linfa recurses without end on a value that is not finite, and panics where there are no rows.
    if samples.is_empty() {
        return Err(TrainError::NoRows);
    }
    let mut dataset = samples.dataset();
    for ((row, column), value) in dataset.records.indexed_iter_mut() {
        *value = f64::from(*value as f32);
        if !value.is_finite() {
            return Err(TrainError::NotFinite { row: row + 1, feature: samples.features()[column].clone() });
        }
    }
    Ok(dataset)
}

fn grow(parameters: &RandomForest, dataset: &Dataset<f64, usize, Ix1>) -> Result<LinfaForest, TrainError> {
    if !parameters.bootstrap {
        return Err(TrainError::AlwaysBootstraps);
    }
    let depth = parameters.max_depth.unwrap_or(DEPTH_MAX).min(DEPTH_MAX);
    let tree = DecisionTree::params()
        .max_depth(Some(depth as usize))
        .min_weight_leaf(parameters.min_samples_leaf as f32);
    let forest = EnsembleLearnerParams::new_fixed_rng(tree, StdRng::seed_from_u64(parameters.seed))
        .ensemble_size(parameters.trees as usize)
        .feature_proportion(1.0)
        .fit(dataset)?;
    Ok(forest)
}

/// The same nodes as a [`Forest`]: each leaf gives all to the class it votes for. Where several classes have the
/// most votes linfa takes one of them by chance, a [`Forest`] the lowest.
pub fn flatten(grown: &LinfaForest, features: usize, classes: usize) -> Result<Forest, ForestError> {
    let mut builder = Builder::new(features, classes);
    for (tree, its_features) in grown.models.iter().zip(&grown.model_features) {
        let tree = flatten_tree(tree.root_node(), its_features, |class| {
            let shares: Vec<f64> = (0..classes).map(|other| f64::from(u8::from(other == class))).collect();
            builder.distribution(&shares)
        });
        builder.push(tree);
    }
    builder.finish()
}

/// Visits a node, then everything on its left, then everything on its right; a node without children is a leaf.
fn flatten_tree(
    root: &TreeNode<f64, usize>,
    features: &[usize],
    mut distribution: impl FnMut(usize) -> u32,
) -> Tree {
    let mut tree: Tree = vec![Node::Leaf { distribution: 0 }];
    let mut pending = vec![(0, root)];
    while let Some((index, node)) = pending.pop() {
        let (feature, threshold, _) = node.split();
        tree[index] = match (node.prediction(), &node.children()[..]) {
            (None, [Some(left), Some(right)]) => {
                let next = tree.len();
                pending.extend([(next + 1, right.as_ref()), (next, left.as_ref())]);
                tree.extend([Node::Leaf { distribution: 0 }; 2]);
                let (left, right) = (next as u32, next as u32 + 1);
                Node::Split { feature: features[feature] as u32, threshold: below(threshold), left, right }
            }
            (class, _) => Node::Leaf { distribution: distribution(class.unwrap_or_default()) },
        };
    }
    tree
}

/// The largest 32-bit float below `threshold`: linfa goes left where `value < threshold`, we where
/// `value <= threshold`, and values have 32 bits.
fn below(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) < threshold { nearest } else { nearest.next_down() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiled::layout::CompiledForest;
    use crate::data::samples::ClassNames;
    use crate::scale::Scaler;
    use linfa::traits::Predict;
    use ndarray::Array1;
    use proptest::prelude::*;

    fn small() -> RandomForestParams {
        RandomForest::params().trees(15).seed(3)
    }

    /// For each row how many trees of linfa's own vote for each class.
    fn votes(grown: &LinfaForest, dataset: &Dataset<f64, usize, Ix1>, classes: usize) -> Vec<Vec<u32>> {
        let mut votes = vec![vec![0; classes]; dataset.records.nrows()];
        for (tree, features) in grown.models.iter().zip(&grown.model_features) {
            let records = dataset.records.select(ndarray::Axis(1), features);
            let predicted: Array1<usize> = tree.predict(&records);
            votes.iter_mut().zip(predicted).for_each(|(votes, class)| votes[class] += 1);
        }
        votes
    }

    #[test]
    fn the_flattened_forest_gives_the_votes_of_linfas_trees_and_the_class_of_its_majority() {
        let samples = Samples::synthetic(600, 4, 11).unwrap();
        let samples = Scaler::fit(&samples).unwrap().transform(&samples);
        let dataset = rounded(&samples).unwrap();
        let grown = grow(small().check_ref().unwrap(), &dataset).unwrap();
        let flat = flatten(&grown, 4, 2).unwrap();
        let ours: Array1<usize> = flat.predict(&dataset.records);
        let theirs: Array1<usize> = grown.predict(&dataset.records);
        // 15 trees and 2 classes: no vote is tied, so chance decides nothing.
        assert_eq!(ours, theirs);

        let packed = CompiledForest::new(&flat);
        let mut probabilities = [0.0; 2];
        for (row, votes) in samples.rows().zip(votes(&grown, &dataset, 2)) {
            let row: Vec<f32> = row.iter().map(|&value| value as f32).collect();
            packed.predict_row(&row, &mut probabilities).unwrap();
            let shares: Vec<f64> = votes.iter().map(|&votes| f64::from(votes) / 15.0).collect();
            assert_eq!(probabilities.as_slice(), shares, "{row:?}");
        }
    }

    #[test]
    fn a_tied_vote_goes_to_the_lowest_class() {
        let samples = Samples::synthetic(200, 4, 5).unwrap();
        let dataset = rounded(&samples).unwrap();
        let grown = grow(small().trees(2).check_ref().unwrap(), &dataset).unwrap();
        let ours: Array1<usize> = flatten(&grown, 4, 2).unwrap().predict(&dataset.records);
        let votes = votes(&grown, &dataset, 2);
        assert!(votes.iter().any(|votes| votes[..] == [1, 1]), "no vote is tied");
        for (class, votes) in ours.iter().zip(votes) {
            assert_eq!(*class, usize::from(votes[..] == [0, 2]), "{votes:?}");
        }
    }

    #[test]
    fn depth_and_size_of_leaves_are_limited() {
        let samples = Samples::synthetic(300, 3, 2).unwrap();
        let stumps = train(&small().max_depth(Some(1)), &samples).unwrap();
        assert!(stumps.trees().iter().all(|tree| tree.len() <= 3));
        let large = train(&small().min_samples_leaf(200), &samples).unwrap();
        assert!(large.trees().iter().all(|tree| tree.len() == 1));
    }

    #[test]
    fn a_chain_of_thousands_of_splits_is_cut_before_it_overflows_the_stack() {
        let text: Vec<String> = (0..30_000).map(|row| format!("{row},{}\n", row % 2)).collect();
        let samples = Samples::from_csv(format!("a,class\n{}", text.concat()).as_bytes(), "class").unwrap();
        let forest = train(&small().trees(1), &samples).unwrap();
        assert_eq!(depth(&forest.trees()[0]), DEPTH_MAX, "linfa alone would go on");
    }

    /// The most splits on a path from the root to a leaf.
    fn depth(tree: &Tree) -> u32 {
        let (mut deepest, mut pending) = (0, vec![(0, 0)]);
        while let Some((index, depth)) = pending.pop() {
            deepest = deepest.max(depth);
            if let Node::Split { left, right, .. } = tree[index as usize] {
                pending.extend([(left, depth + 1), (right, depth + 1)]);
            }
        }
        deepest
    }

    #[test]
    fn data_that_would_abort_linfa_and_unsupported_parameters_are_refused() {
        let refused = |parameters: RandomForestParams, values: Vec<f64>| {
            let targets = (0..values.len()).map(|row| row % 2).collect();
            let features = vec!["a".into()];
            let samples =
                Samples { features, values, targets, classes: ClassNames::Unnamed(2), merged: vec![] };
            train(&parameters, &samples).unwrap_err().to_string()
        };
        assert_eq!(refused(small(), vec![]), "training data has no rows");
        for value in [f64::NAN, f64::INFINITY, 1e39] {
            let error = refused(small(), vec![0.0, value]);
            assert!(error.starts_with("row 2 column \"a\" must be a finite 32-bit number"), "{error}");
        }
        assert_eq!(
            refused(small().bootstrap(false), vec![0.0, 1.0]),
            "linfa always draws a bootstrap sample: leave bootstrap on, or train without linfa"
        );
        assert_eq!(refused(small().trees(0), vec![0.0, 1.0]), "trees must be from 1 to 10000, but is 0");
    }

    proptest! {
        #[test]
        fn values_below_a_threshold_are_at_most_the_float_below_it(threshold in -1e6..1e6_f64, value in -1e6..1e6_f32) {
            let near = [value, threshold as f32, (threshold as f32).next_up(), (threshold as f32).next_down()];
            for value in near {
                prop_assert_eq!(f64::from(value) < threshold, value <= below(threshold), "{} {}", value, threshold);
            }
        }
    }
}
