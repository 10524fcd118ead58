//! The head of a model: scores become a class with its probability, or a value.

use std::fmt;

use canopy_contract::describe::Task;
use canopy_contract::predict::RowAnswer;
use serde::{Deserialize, Serialize};

/// How scores are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Head {
    /// As one probability per class.
    Classify {
        /// What makes them probabilities.
        link: ClassLink,
    },
    /// As one value.
    Regress,
}

/// What makes scores the probabilities of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClassLink {
    /// They are probabilities already.
    Identity,
    /// Two classes and one score: its logistic function is the probability of the second class.
    Logistic,
    /// One score per class: their softmax.
    Softmax,
}

/// An answer for one row. As JSON it has the members that a predictor's answer has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// A class and its probability.
    Class(RowAnswer),
    /// A value.
    Value {
        /// The value.
        prediction: f64,
    },
}

impl Default for Head {
    fn default() -> Self {
        Self::Classify { link: ClassLink::Identity }
    }
}

impl Head {
    /// The kind of answer.
    pub fn task(self) -> Task {
        match self {
            Self::Classify { .. } => Task::Classification,
            Self::Regress => Task::Regression,
        }
    }

    /// How many scores an engine must compute for a model of `classes` classes.
    pub fn scores(self, classes: usize) -> usize {
        match self {
            Self::Classify { link: ClassLink::Identity | ClassLink::Softmax } => classes,
            Self::Classify { link: ClassLink::Logistic } | Self::Regress => 1,
        }
    }

    /// Replaces the contents of `probabilities` by the probability of each class, or by the value itself.
    pub fn probabilities(self, scores: &[f64], probabilities: &mut Vec<f64>) {
        probabilities.clear();
        match self {
            Self::Regress | Self::Classify { link: ClassLink::Identity } => {
                probabilities.extend_from_slice(scores);
            }
            Self::Classify { link: ClassLink::Logistic } => {
                let second = scores.first().map_or(f64::NAN, |score| 1.0 / (1.0 + (-score).exp()));
                probabilities.extend([1.0 - second, second]);
            }
            Self::Classify { link: ClassLink::Softmax } => {
                // Relative to the largest, so that no exponential is infinite.
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                probabilities.extend(scores.iter().map(|score| (score - largest).exp()));
                let sum: f64 = probabilities.iter().sum();
                for probability in probabilities {
                    *probability /= sum;
                }
            }
        }
    }

    /// The answer for the scores of one row. `room` is a buffer.
    pub fn answer(self, scores: &[f64], room: &mut Vec<f64>) -> Answer {
        match self {
            Self::Regress => Answer::Value { prediction: scores.first().copied().unwrap_or(f64::NAN) },
            Self::Classify { link: ClassLink::Identity } => most_probable(scores),
            Self::Classify { link: ClassLink::Logistic | ClassLink::Softmax } => {
                self.probabilities(scores, room);
                most_probable(room)
            }
        }
    }
}

/// The first of the most probable classes, as numpy's `argmax`.
fn most_probable(probabilities: &[f64]) -> Answer {
    let mut class = 0;
    for (index, probability) in probabilities.iter().enumerate() {
        if *probability > probabilities[class] {
            class = index;
        }
    }
    let confidence = probabilities.get(class).copied().unwrap_or(f64::NAN);
    Answer::Class(RowAnswer { prediction: class as u32, confidence })
}

impl Answer {
    /// The index of the class.
    pub fn class(self) -> Option<u32> {
        match self {
            Self::Class(RowAnswer { prediction, .. }) => Some(prediction),
            Self::Value { .. } => None,
        }
    }

    /// The probability of the class.
    pub fn confidence(self) -> Option<f64> {
        match self {
            Self::Class(RowAnswer { confidence, .. }) => Some(confidence),
            Self::Value { .. } => None,
        }
    }

    /// The value.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Class(_) => None,
            Self::Value { prediction } => Some(prediction),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(RowAnswer { prediction, confidence }) => write!(f, "{prediction} with {confidence}"),
            Self::Value { prediction } => write!(f, "{prediction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(head: Head, scores: &[f64]) -> Answer {
        head.answer(scores, &mut Vec::new())
    }

    fn class(prediction: u32, confidence: f64) -> Answer {
        Answer::Class(RowAnswer { prediction, confidence })
    }

    #[test]
    fn the_class_is_the_first_of_the_most_probable() {
        let head = Head::default();
        assert_eq!(answer(head, &[0.2, 0.4, 0.4]), class(1, 0.4));
        assert_eq!(answer(head, &[0.5, 0.5]), class(0, 0.5));
        assert_eq!(answer(head, &[0.0, 0.0, 1.0]), class(2, 1.0));
    }

    #[test]
    fn a_logistic_score_is_the_probability_of_the_second_class() {
        let head = Head::Classify { link: ClassLink::Logistic };
        assert_eq!(answer(head, &[0.0]), class(0, 0.5));
        assert_eq!(answer(head, &[3_f64.ln()]), class(1, 1.0 / (1.0 + (-(3_f64.ln())).exp())));
        assert_eq!(answer(head, &[-1000.0]), class(0, 1.0));
        assert_eq!((head.scores(2), head.task()), (1, Task::Classification));
    }

    #[test]
    fn softmax_is_finite_for_large_scores() {
        let head = Head::Classify { link: ClassLink::Softmax };
        let mut probabilities = Vec::new();
        head.probabilities(&[1000.0, 1000.0 + 3_f64.ln(), -1000.0], &mut probabilities);
        assert!(
            probabilities.iter().zip([0.25, 0.75, 0.0]).all(|(a, b)| (a - b).abs() < 1e-9),
            "{probabilities:?}"
        );
        assert_eq!(answer(head, &[1000.0, 2000.0]), class(1, 1.0));
    }

    #[test]
    fn a_value_is_the_score_and_has_no_confidence() {
        let value = answer(Head::Regress, &[3.25]);
        assert_eq!((value.class(), value.confidence(), value.value()), (None, None, Some(3.25)));
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"prediction":3.25}"#);
    }

    #[test]
    fn an_answer_survives_json() {
        for answer in [class(1, 0.87), Answer::Value { prediction: 0.1 }] {
            let json = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer, "{json}");
        }
    }
}
