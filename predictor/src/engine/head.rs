//! The head of a model: scores become a class with its probability, or a value.

use std::fmt;

use canopy_contract::describe::Task;
use canopy_contract::predict::RowAnswer;
use canopy_forest::read::model::Link;
use serde::{Deserialize, Serialize};

/// How scores are read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Head {
    /// As one probability per class.
    Classify {
        /// What makes them probabilities. With one score for two classes it is that of the second class.
        link: Link,
    },
    /// As values.
    Regress {
        /// What makes them values.
        link: Link,
    },
}

/// An answer for one row. As JSON it has the members that a predictor's answer has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// A class and its probability.
    Class(RowAnswer),
    /// A value.
    Value {
        /// The value.
        prediction: f64,
    },
    /// The values of a model with several outputs.
    Values {
        /// The values.
        prediction: Vec<f64>,
    },
}

impl Default for Head {
    fn default() -> Self {
        Self::Classify { link: Link::Identity }
    }
}

impl Head {
    /// The kind of answer.
    pub fn task(self) -> Task {
        match self {
            Self::Classify { .. } => Task::Classification,
            Self::Regress { .. } => Task::Regression,
        }
    }

    /// Whether `scores` scores per row are right for a model with `classes` classes.
    pub fn takes(self, scores: usize, classes: usize) -> bool {
        match self {
            Self::Classify { .. } => classes > 0 && scores == classes || (scores, classes) == (1, 2),
            Self::Regress { .. } => scores > 0 && classes == 0,
        }
    }

    /// Replaces the contents of `outputs` by the probability of each class, or by the values.
    pub fn outputs(self, scores: &[f64], outputs: &mut Vec<f64>) {
        outputs.clear();
        outputs.extend_from_slice(scores);
        match self {
            Self::Regress { link } => link.apply_to(outputs),
            Self::Classify { link } => {
                link.apply_to(outputs);
                if let [second] = outputs[..] {
                    outputs.insert(0, 1.0 - second);
                }
            }
        }
    }

    /// The answer for the scores of one row. `room` is a buffer.
    pub fn answer(self, scores: &[f64], room: &mut Vec<f64>) -> Answer {
        match self {
            // The scores are the probabilities: no copy is needed.
            Self::Classify { link: Link::Identity } if scores.len() > 1 => most_probable(scores),
            Self::Classify { .. } => {
                self.outputs(scores, room);
                most_probable(room)
            }
            Self::Regress { .. } => {
                self.outputs(scores, room);
                match room[..] {
                    [prediction] => Answer::Value { prediction },
                    _ => Answer::Values { prediction: room.clone() },
                }
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
    pub fn class(&self) -> Option<u32> {
        match self {
            Self::Class(RowAnswer { prediction, .. }) => Some(*prediction),
            Self::Value { .. } | Self::Values { .. } => None,
        }
    }

    /// The probability of the class.
    pub fn confidence(&self) -> Option<f64> {
        match self {
            Self::Class(RowAnswer { confidence, .. }) => Some(*confidence),
            Self::Value { .. } | Self::Values { .. } => None,
        }
    }

    /// The value of a model with one output.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Class(_) | Self::Values { .. } => None,
            Self::Value { prediction } => Some(*prediction),
        }
    }

    /// Whether all of its numbers are finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Class(RowAnswer { confidence, .. }) => confidence.is_finite(),
            Self::Value { prediction } => prediction.is_finite(),
            Self::Values { prediction } => prediction.iter().all(|value| value.is_finite()),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(RowAnswer { prediction, confidence }) => write!(f, "{prediction} with {confidence}"),
            Self::Value { prediction } => write!(f, "{prediction}"),
            Self::Values { prediction } => write!(f, "{prediction:?}"),
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
    fn one_score_of_two_classes_is_that_of_the_second_class() {
        let head = Head::Classify { link: Link::Logistic { scale: 1.0 } };
        assert_eq!(answer(head, &[0.0]), class(0, 0.5));
        assert_eq!(answer(head, &[3_f64.ln()]), class(1, 1.0 / (1.0 + (-(3_f64.ln())).exp())));
        assert_eq!(answer(head, &[-1000.0]), class(0, 1.0));
        assert_eq!(answer(Head::default(), &[0.75]), class(1, 0.75));
        assert_eq!(head.task(), Task::Classification);
    }

    #[test]
    fn a_head_takes_one_score_per_class_or_one_for_two_classes() {
        let (classify, regress) = (Head::default(), Head::Regress { link: Link::Identity });
        for (head, scores, classes, takes) in [
            (classify, 3, 3, true),
            (classify, 1, 2, true),
            (classify, 1, 3, false),
            (classify, 0, 0, false),
            (regress, 1, 0, true),
            (regress, 2, 0, true),
            (regress, 0, 0, false),
            (regress, 2, 2, false),
        ] {
            assert_eq!(head.takes(scores, classes), takes, "{head:?} of {scores} scores, {classes} classes");
        }
    }

    #[test]
    fn softmax_is_finite_for_large_scores() {
        let head = Head::Classify { link: Link::Softmax };
        let mut probabilities = Vec::new();
        head.outputs(&[1000.0, 1000.0 + 3_f64.ln(), -1000.0], &mut probabilities);
        assert!(
            probabilities.iter().zip([0.25, 0.75, 0.0]).all(|(a, b)| (a - b).abs() < 1e-9),
            "{probabilities:?}"
        );
        assert_eq!(answer(head, &[1000.0, 2000.0]), class(1, 1.0));
    }

    #[test]
    fn a_value_is_the_linked_score_and_has_no_confidence() {
        let value = answer(Head::Regress { link: Link::Identity }, &[3.25]);
        assert_eq!((value.class(), value.confidence(), value.value()), (None, None, Some(3.25)));
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"prediction":3.25}"#);
        assert_eq!(answer(Head::Regress { link: Link::Exp }, &[0.0]).value(), Some(1.0));
        let several = answer(Head::Regress { link: Link::Identity }, &[3.25, -1.0]);
        assert_eq!((several.class(), several.value()), (None, None));
        assert_eq!(serde_json::to_string(&several).unwrap(), r#"{"prediction":[3.25,-1.0]}"#);
        assert!(
            several.is_finite()
                && !answer(Head::Regress { link: Link::Identity }, &[1.0, f64::NAN]).is_finite()
        );
    }

    #[test]
    fn an_answer_survives_json() {
        let values = Answer::Values { prediction: vec![0.1, -2.0] };
        for answer in [class(1, 0.87), Answer::Value { prediction: 0.1 }, values] {
            let json = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer, "{json}");
        }
    }
}
