//! The objectives of `XGBoost`: what they make of scores (`PredTransform` in its sources) and how they turn `base_score` into
//! a score (`ProbToMargin`).

use crate::read::error::Problem;
use crate::read::model::{Link, Output};
use crate::read::xgboost::document::LearnerParam;

/// What a model with an objective computes.
pub(super) struct Objective {
    pub(super) link: Link,
    pub(super) output: Output,
}

/// An objective by its name.
pub(super) fn objective(name: &str, param: &LearnerParam) -> Result<Objective, Problem> {
    let targets = param.num_target.max(1);
    let labels = |count: usize| Output::Classes((0..count).map(|class| class.to_string()).collect());
    let values = || match targets {
        1 => Output::Values(vec!["prediction".to_owned()]),
        _ => Output::Values((0..targets).map(|index| format!("prediction_{index}")).collect()),
    };
    let is_multiclass = param.num_class > 1;
    let (link, output) = match name {
        "multi:softmax" | "multi:softprob" if is_multiclass && targets == 1 => {
            (Link::Softmax, labels(param.num_class))
        }
        _ if is_multiclass || name.starts_with("multi:") => {
            let (name, classes) = (start(name), param.num_class);
            return Err(Problem::malformed(format!("`{name}` does not fit {classes} classes")));
        }
        "binary:logistic" if targets == 1 => (Link::Logistic { scale: 1.0 }, labels(2)),
        "binary:logistic" | "reg:logistic" => (Link::Logistic { scale: 1.0 }, values()),
        "binary:logitraw"
        | "reg:squarederror"
        | "reg:linear"
        | "reg:absoluteerror"
        | "reg:quantileerror"
        | "reg:pseudohubererror"
        | "reg:squaredlogerror"
        | "rank:ndcg"
        | "rank:map"
        | "rank:pairwise" => (Link::Identity, values()),
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
            (Link::Exp, values())
        }
        _ => {
            let what = format!("objective `{}`", start(name));
            return Err(Problem::unsupported(what, "train with one of the objectives in docs/models.md"));
        }
    };
    Ok(Objective { link, output })
}

fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

impl Objective {
    /// The score from which each output's sum starts.
    pub(super) fn base(&self, numbers: &[f64], outputs: usize) -> Result<Vec<f64>, Problem> {
        let numbers = match *numbers {
            [number] => vec![number; outputs],
            _ if numbers.len() == outputs => numbers.to_vec(),
            _ => {
                let found = numbers.len();
                return Err(Problem::malformed(format!("it must have 1 or {outputs} numbers, got {found}")));
            }
        };
        let score = |number: f64| match self.link {
            Link::Logistic { .. } => (number / (1.0 - number)).ln(),
            Link::Exp => number.ln(),
            Link::Identity | Link::LogisticShares | Link::Softmax | Link::SignedSquare | Link::Softplus => {
                number
            }
        };
        let scores: Vec<_> = numbers.iter().map(|number| score(*number)).collect();
        match scores.iter().position(|score| !score.is_finite()) {
            Some(at) => Err(Problem::malformed(format!("{} is outside the objective's range", numbers[at]))),
            None => Ok(scores),
        }
    }
}
