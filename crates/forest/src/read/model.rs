//! What a reader makes of a model file: inputs, preprocessing, a model, a link function and outputs.

use serde::{Deserialize, Serialize};

use crate::ensemble::form::Ensemble;
use crate::read::columns::{Column, Norm};
use crate::read::format::Format;

/// A model of another library.
///
/// A row has one number per input. The steps change it, the model computes scores from it, and the link makes outputs of
/// the scores.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedModel {
    /// The format of its file.
    pub format: Format,
    /// The inputs, in the order of a row.
    pub inputs: Vec<Input>,
    /// The preprocessing, in order.
    pub steps: Vec<Step>,
    /// What computes the scores.
    pub model: Model,
    /// What makes outputs of scores.
    pub link: Link,
    /// What the outputs are.
    pub output: Output,
    /// Whether the library sends a missing value along a path of its own at every split, in whichever column it is.
    pub handles_missing: bool,
}

/// An input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The name, where the file has one.
    pub name: Option<String>,
    /// What its numbers mean.
    pub kind: InputKind,
}

/// What the numbers of an input mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// A quantity.
    Numeric,
    /// The index of a category.
    Categorical {
        /// The categories in the order of their index; empty where the file has none, and clients send the index.
        categories: Vec<String>,
    },
}

/// One step of preprocessing. It takes a row and gives a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Replaces values from `-largest` to `largest` by NaN.
    ZeroToMissing {
        /// The largest value that counts as zero.
        largest: f64,
        /// The indices of the values in the row that are replaced.
        columns: Vec<usize>,
    },
    /// Makes a new row of these columns.
    Columns(Vec<Column>),
    /// Divides the row by its norm.
    Normalize(Norm),
}

/// What computes scores from a preprocessed row.
#[derive(Clone, Debug, PartialEq)]
pub enum Model {
    /// Decision trees.
    Trees(Ensemble),
    /// Weighted sums.
    Linear(Linear),
}

/// One weighted sum of the row per score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// The weights of each score, each as long as a row.
    pub weights: Vec<Vec<f64>>,
    /// What is added, one number per score.
    pub intercepts: Vec<f64>,
}

/// What makes outputs of scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Link {
    /// Outputs are the scores.
    Identity,
    /// `1 / (1 + exp(-scale * score))` of each score. Two classes may have one score: that of the second.
    Logistic {
        /// The scale.
        scale: f64,
    },
    /// `1 / (1 + exp(-score))` of each score, divided by their sum.
    LogisticShares,
    /// The softmax of all scores.
    Softmax,
    /// The exponential of each score.
    Exp,
    /// The square of each score with the score's sign.
    SignedSquare,
    /// `ln(1 + exp(score))` of each score.
    Softplus,
}

/// What the outputs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// One probability per class; the labels in the order of the probabilities.
    Classes(Vec<String>),
    /// Values, by name.
    Values(Vec<String>),
}

impl Model {
    /// How many numbers a preprocessed row has.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Trees(ensemble) => ensemble.inputs(),
            Self::Linear(linear) => linear.weights.first().map_or(0, Vec::len),
        }
    }

    /// How many scores a row gets.
    pub fn scores(&self) -> usize {
        match self {
            Self::Trees(ensemble) => ensemble.outputs(),
            Self::Linear(linear) => linear.weights.len(),
        }
    }
}

impl ImportedModel {
    /// The scores of one row, before the link. Slow: it is the definition that engines are tested against.
    ///
    /// # Panics
    /// If the row is shorter than the inputs.
    pub fn scores(&self, row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        for step in &self.steps {
            step.apply(&mut row);
        }
        match &self.model {
            Model::Trees(ensemble) => ensemble.evaluate(&row),
            Model::Linear(linear) => linear.evaluate(&row),
        }
    }

    /// The outputs of one row: one probability per class, or the values.
    ///
    /// # Panics
    /// If the row is shorter than the inputs.
    pub fn outputs(&self, row: &[f64]) -> Vec<f64> {
        let outputs = self.link.apply(self.scores(row));
        match (&self.output, &outputs[..]) {
            (Output::Classes(labels), &[second]) if labels.len() == 2 => vec![1.0 - second, second],
            _ => outputs,
        }
    }
}

impl Step {
    /// Changes a row.
    pub fn apply(&self, row: &mut Vec<f64>) {
        match self {
            Self::ZeroToMissing { largest, columns } => {
                for column in columns {
                    if let Some(value) = row.get_mut(*column).filter(|value| value.abs() <= *largest) {
                        *value = f64::NAN;
                    }
                }
            }
            Self::Columns(columns) => *row = columns.iter().map(|column| column.value(row)).collect(),
            Self::Normalize(norm) => norm.apply(row),
        }
    }
}

impl Linear {
    fn evaluate(&self, row: &[f64]) -> Vec<f64> {
        self.scores(row).collect()
    }

    /// The scores of a row as long as the weights of each score.
    pub fn scores(&self, row: &[f64]) -> impl Iterator<Item = f64> {
        let dot = move |weights: &Vec<f64>| -> f64 {
            weights.iter().zip(row).map(|(weight, value)| weight * value).sum()
        };
        self.weights.iter().zip(&self.intercepts).map(move |(weights, intercept)| dot(weights) + intercept)
    }

    /// Whether there are scores, each with as many weights and with an intercept, all of them finite.
    pub fn is_valid(&self) -> bool {
        let inputs = self.weights.first().map_or(0, Vec::len);
        inputs > 0
            && self.weights.len() == self.intercepts.len()
            && self.weights.iter().all(|weights| weights.len() == inputs)
            && self.weights.iter().flatten().chain(&self.intercepts).all(|number| number.is_finite())
    }
}

impl Link {
    /// The outputs of the scores of one row.
    #[must_use]
    pub fn apply(self, mut scores: Vec<f64>) -> Vec<f64> {
        self.apply_to(&mut scores);
        scores
    }

    /// Replaces the scores of one row by its outputs.
    pub fn apply_to(self, scores: &mut [f64]) {
        match self {
            Self::Identity => {}
            Self::Logistic { scale } => each(scores, |score| 1.0 / (1.0 + (-scale * score).exp())),
            Self::LogisticShares => {
                each(scores, |score| 1.0 / (1.0 + (-score).exp()));
                Norm::L1.apply(scores);
            }
            Self::Exp => each(scores, f64::exp),
            Self::SignedSquare => each(scores, |score| score * score.abs()),
            Self::Softplus => each(scores, |score| score.exp().ln_1p()),
            Self::Softmax => {
                // Relative to the largest, so that no exponential is infinite.
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                each(scores, |score| (score - largest).exp());
                let sum: f64 = scores.iter().sum();
                each(scores, |score| score / sum);
            }
        }
    }
}

fn each(scores: &mut [f64], function: impl Fn(f64) -> f64) {
    for score in scores {
        *score = function(*score);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_makes_outputs_of_scores() {
        for (link, scores, outputs) in [
            (Link::Identity, vec![-3.0, 2.0], vec![-3.0, 2.0]),
            (Link::Logistic { scale: 2.0 }, vec![0.0, 3_f64.ln() / 2.0, -1e9], vec![0.5, 0.75, 0.0]),
            (Link::Softmax, vec![1000.0, 1000.0 + 3_f64.ln(), -1000.0], vec![0.25, 0.75, 0.0]),
            (Link::LogisticShares, vec![0.0, 3_f64.ln()], vec![0.4, 0.6]),
            (Link::Exp, vec![0.0, 1.0], vec![1.0, std::f64::consts::E]),
            (Link::SignedSquare, vec![-3.0, 2.0], vec![-9.0, 4.0]),
            (Link::Softplus, vec![0.0], vec![2_f64.ln()]),
        ] {
            let found = link.apply(scores);
            assert!(found.iter().zip(&outputs).all(|(a, b)| (a - b).abs() < 1e-9), "{link:?}: {found:?}");
        }
    }

    #[test]
    fn two_classes_with_one_score_have_two_probabilities() {
        let model = ImportedModel {
            format: Format::Onnx,
            inputs: vec![Input { name: None, kind: InputKind::Numeric }; 2],
            steps: vec![Step::ZeroToMissing { largest: 0.5, columns: vec![1, 7] }],
            model: Model::Linear(Linear { weights: vec![vec![1.0, 0.5]], intercepts: vec![-1.0] }),
            link: Link::Logistic { scale: 1.0 },
            output: Output::Classes(vec!["no".to_owned(), "yes".to_owned()]),
            handles_missing: false,
        };
        assert_eq!((model.model.inputs(), model.model.scores()), (2, 1));
        assert_eq!(model.scores(&[0.0, 2.0]), [0.0]);
        assert_eq!(model.outputs(&[0.0, 2.0]), [0.5, 0.5]);
        assert!(model.scores(&[0.0, 0.5])[0].is_nan());
    }
}
