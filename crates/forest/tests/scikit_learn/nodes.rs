//! scikit-learn's own nodes give its labels and, to the last bit, its probabilities.

use canopy_forest::compiled::layout::CompiledForest;
use canopy_forest::compiled::walk::class_of;
use canopy_forest::ensemble::forest::{Builder, Forest, Node};
use canopy_forest::scale::Scaler;

use crate::golden::{self, GoldenForest, GoldenNode, SETS};

/// scikit-learn compares 32-bit values with 64-bit thresholds. The largest 32-bit number that is not above the
/// threshold separates the same values.
fn rounded_down(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
}

fn load(golden: &GoldenForest) -> Forest {
    let mut builder = Builder::new(golden.features, golden.classes);
    for tree in &golden.trees {
        let tree = tree.iter().map(|node| match node {
            GoldenNode::Leaf { shares } => Node::Leaf { distribution: builder.distribution(shares) },
            &GoldenNode::Split(feature, threshold, left, right) => {
                Node::Split { feature, threshold: rounded_down(threshold), left, right }
            }
        });
        let tree = tree.collect();
        builder.push(tree);
    }
    builder.finish().expect("a forest")
}

#[test]
fn scikit_learns_own_nodes_give_its_labels_and_probabilities() {
    for set in SETS {
        let (samples, golden) = (golden::samples(set), golden::forest(set));
        let forest = CompiledForest::new(&load(&golden));
        let scaler = Scaler::identity(golden.features);
        let (mut values, mut probabilities) = (Vec::new(), vec![0.0; golden.classes]);
        let mut rows = 0;
        let expected = golden.labels.iter().zip(&golden.probabilities);
        for (row, (&label, expected)) in samples.rows().skip(1).step_by(2).zip(expected) {
            scaler.apply(row, &mut values);
            forest.predict_row(&values, &mut probabilities).expect("a prediction");
            assert_eq!(class_of(&probabilities), label, "{set} {row:?}");
            assert_eq!(&probabilities, expected, "{set} {row:?}");
            rows += 1;
        }
        assert_eq!(rows, samples.len() / 2, "{set} has other rows");
    }
}
