//! The objectives of `LightGBM` and what they make of scores (`ObjectiveFunction::ConvertOutput` in its sources).

use crate::read::error::Problem;
use crate::read::lightgbm::sections::start;
use crate::read::model::{Link, Output};

const HINT: &str = "train with one of the objectives in docs/models.md";

/// The link and the outputs of an objective with its parameters, such as `binary sigmoid:1`, for `outputs` scores.
///
/// Without an objective, as with a caller's own function, the scores are the values.
pub(super) fn link(objective: Option<&str>, outputs: usize) -> Result<(Link, Output), Problem> {
    let mut words = objective.unwrap_or("none").split_ascii_whitespace();
    let (name, parameters) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
    let classes = |count: usize| Output::Classes((0..count).map(|class| class.to_string()).collect());
    let values = || match outputs {
        1 => Output::Values(vec!["prediction".to_owned()]),
        _ => Output::Values((0..outputs).map(|index| format!("prediction_{index}")).collect()),
    };
    let (link, output) = match name {
        "binary" => (Link::Logistic { scale: sigmoid(&parameters)? }, classes(2)),
        "multiclass" => (Link::Softmax, classes(outputs)),
        "multiclassova" => (Link::Logistic { scale: sigmoid(&parameters)? }, classes(outputs)),
        "regression" | "regression_l1" | "fair" | "quantile" | "mape" if parameters.contains(&"sqrt") => {
            (Link::SignedSquare, values())
        }
        "regression" | "regression_l1" | "fair" | "quantile" | "mape" | "huber" | "lambdarank"
        | "rank_xendcg" | "none" => (Link::Identity, values()),
        "poisson" | "gamma" | "tweedie" => (Link::Exp, values()),
        "cross_entropy" => (Link::Logistic { scale: 1.0 }, values()),
        "cross_entropy_lambda" => (Link::Softplus, values()),
        _ => return Err(Problem::unsupported(format!("objective `{}`", start(name)), HINT)),
    };
    let is_multiclass = matches!(name, "multiclass" | "multiclassova");
    if is_multiclass != (outputs > 1) && name != "none" {
        return Err(Problem::malformed(format!("objective `{name}` does not fit {outputs} trees per round")));
    }
    Ok((link, output))
}

fn sigmoid(parameters: &[&str]) -> Result<f64, Problem> {
    let value = parameters.iter().find_map(|word| word.strip_prefix("sigmoid:")).unwrap_or("1");
    let scale = value.parse().ok().filter(|scale: &f64| scale.is_finite() && *scale > 0.0);
    scale.ok_or_else(|| Problem::malformed(format!("`sigmoid` must be above 0, got `{}`", start(value))))
}
