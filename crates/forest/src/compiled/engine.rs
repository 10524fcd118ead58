//! Any ensemble, in the fastest layout that fits it.

use crate::compiled::general::GeneralEnsemble;
use crate::compiled::layout::CompiledForest;
use crate::compiled::walk::PredictError;
use crate::ensemble::form::Ensemble;

/// An ensemble, ready for rows.
#[derive(Clone, Debug)]
pub struct CompiledEnsemble(Layout);

#[derive(Clone, Debug)]
enum Layout {
    Forest(CompiledForest),
    General(GeneralEnsemble),
}

impl CompiledEnsemble {
    /// Lays `ensemble` out.
    pub fn new(ensemble: &Ensemble) -> Self {
        Self(match CompiledForest::of_ensemble(ensemble) {
            Some(forest) => Layout::Forest(forest),
            None => Layout::General(GeneralEnsemble::new(ensemble)),
        })
    }

    /// How many numbers a row has.
    pub fn inputs(&self) -> usize {
        match &self.0 {
            Layout::Forest(forest) => forest.features(),
            Layout::General(general) => general.inputs,
        }
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        match &self.0 {
            Layout::Forest(forest) => forest.classes(),
            Layout::General(general) => general.outputs,
        }
    }

    /// Fills `scores` with the scores of each row: the same bits as [`Ensemble::evaluate`]. `narrow` is a buffer.
    pub fn run(&self, rows: &[f64], narrow: &mut Vec<f32>, scores: &mut [f64]) -> Result<(), PredictError> {
        let forest = match &self.0 {
            Layout::General(general) => {
                let (inputs, outputs) = (general.inputs, general.outputs);
                if !scores.len().is_multiple_of(outputs) {
                    return Err(PredictError::Room { room: scores.len(), classes: outputs });
                }
                let count = scores.len() / outputs;
                if rows.len() != count * inputs {
                    return Err(PredictError::Values { values: rows.len(), rows: count, features: inputs });
                }
                general.run(rows, scores);
                return Ok(());
            }
            Layout::Forest(forest) => forest,
        };
        narrow.clear();
        narrow.extend(rows.iter().map(|&value| value as f32));
        if scores.len() == forest.classes() {
            forest.predict_row(narrow, scores)
        } else {
            forest.predict_rows(narrow, scores)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::form::{Combine, Node, RawEnsemble, Side, Tree};
    use crate::ensemble::precision::Precision;
    use proptest::prelude::*;

    /// Values and thresholds with ties, in either precision.
    const VALUES: [f64; 14] = [
        0.0,
        -0.0,
        0.1,
        0.100_000_001_490_116_12,
        1.0,
        1.000_000_000_000_000_2,
        1.000_000_119_209_289_6,
        -2.5,
        3.0,
        3.7,
        64.0,
        130.0,
        1e300,
        -1e-300,
    ];

    /// How a leaf is split: which leaf, by which feature, at which value, with which kind and side.
    type Growth = (usize, u32, usize, bool, bool);

    fn tree(growth: &[Growth], is_plain: bool, leaves: u32) -> Tree {
        let mut tree: Tree = vec![Node::Leaf { values: 0 }];
        for &(at, feature, value, is_category, is_right) in growth {
            let ends: Vec<usize> =
                (0..tree.len()).filter(|&index| matches!(tree[index], Node::Leaf { .. })).collect();
            let (left, right) = (tree.len() as u32, tree.len() as u32 + 1);
            let missing = if is_right && !is_plain { Side::Right } else { Side::Left };
            tree[ends[at % ends.len()]] = if is_category && !is_plain {
                Node::Category { feature, set: value as u32 % 2, left, right, missing }
            } else {
                let narrow = (VALUES[value] as f32).clamp(f32::MIN, f32::MAX);
                let threshold = if is_plain { f64::from(narrow) } else { VALUES[value] };
                Node::Split { feature, threshold, left, right, missing }
            };
            tree.extend([left, right].map(|index| Node::Leaf { values: index % leaves }));
        }
        tree
    }

    fn ensembles() -> impl Strategy<Value = RawEnsemble> {
        let growth = (any::<usize>(), 0..3_u32, 0..VALUES.len(), any::<bool>(), any::<bool>());
        let trees = prop::collection::vec(prop::collection::vec(growth, 0..12), 1..20);
        let sets = prop::collection::vec(prop::collection::vec(any::<u64>(), 0..3), 2);
        let rest = (1..4_usize, any::<bool>(), any::<bool>(), any::<bool>());
        (trees, sets, rest).prop_map(|(trees, sets, (outputs, is_double, is_plain, is_sum))| RawEnsemble {
            inputs: 3,
            outputs,
            precision: if is_double { Precision::Double } else { Precision::Single },
            combine: if is_sum { Combine::Sum { base: vec![0.3; outputs] } } else { Combine::Mean },
            leaves: (0..7 * outputs).map(|place| (place as f64).sin()).collect(),
            sets: if is_plain { vec![] } else { sets },
            trees: trees.iter().map(|growth| tree(growth, is_plain, 7)).collect(),
        })
    }

    fn values() -> impl Strategy<Value = f64> {
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE];
        prop_oneof![
            6 => prop::sample::select(VALUES.to_vec()),
            2 => prop::sample::select(special.to_vec()),
            2 => prop::sample::select(VALUES.to_vec()).prop_map(f64::next_up),
            2 => prop::sample::select(VALUES.to_vec()).prop_map(|value| f64::from((value as f32).next_down())),
            1 => any::<f64>(),
        ]
    }

    proptest! {
        #[test]
        fn every_layout_gives_the_scores_of_the_definition_bit_by_bit(
            raw in ensembles(), rows in prop::collection::vec(prop::array::uniform3(values()), 1..20),
        ) {
            let is_plain = raw.sets.is_empty() && raw.precision == Precision::Single;
            let sets = raw.sets.len();
            let nodes: usize = raw.trees.iter().map(Vec::len).sum();
            prop_assume!(sets <= nodes);
            let outputs = raw.outputs;
            let ensemble = Ensemble::new(raw).unwrap();
            let compiled = CompiledEnsemble::new(&ensemble);
            prop_assert!(!is_plain || matches!(compiled.0, Layout::Forest(_)));
            let (mut narrow, mut together) = (Vec::new(), vec![0.0; rows.len() * outputs]);
            compiled.run(rows.as_flattened(), &mut narrow, &mut together).unwrap();
            for (row, together) in rows.iter().zip(together.chunks(outputs)) {
                let expected: Vec<u64> = ensemble.evaluate(row).iter().map(|score| score.to_bits()).collect();
                let mut alone = vec![0.0; outputs];
                compiled.run(row, &mut narrow, &mut alone).unwrap();
                for found in [&alone[..], together] {
                    let found: Vec<u64> = found.iter().map(|score| score.to_bits()).collect();
                    prop_assert_eq!(&found, &expected, "{:?}", row);
                }
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let raw = RawEnsemble {
            inputs: 3,
            outputs: 2,
            precision: Precision::Double,
            combine: Combine::Mean,
            leaves: vec![1.0, 2.0],
            sets: vec![],
            trees: vec![vec![Node::Leaf { values: 0 }]],
        };
        let single = RawEnsemble { precision: Precision::Single, ..raw.clone() };
        for raw in [raw, single] {
            let compiled = CompiledEnsemble::new(&Ensemble::new(raw).unwrap());
            assert_eq!((compiled.inputs(), compiled.outputs()), (3, 2));
            let error = |values: usize, room: usize| {
                let run = compiled.run(&vec![0.0; values], &mut Vec::new(), &mut vec![0.0; room]);
                run.unwrap_err().to_string()
            };
            assert_eq!(error(6, 2), "6 values are not 1 rows of 3 features");
            assert_eq!(error(6, 3), "room for 3 probabilities is not room for answers of 2 classes");
        }
    }
}
