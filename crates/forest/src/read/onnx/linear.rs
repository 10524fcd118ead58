//! `LinearClassifier` and `LinearRegressor` of ai.onnx.ml.

use crate::read::error::{Limits, Problem};
use crate::read::model::{Linear, Link, Model};
use crate::read::onnx::branches::Predictor;
use crate::read::onnx::messages::Node;
use crate::read::onnx::trees::{Rows, labels, not_probabilities, post_transform};

/// Reads a classifier. Two classes may have one score: that of the second.
pub(crate) fn classifier(node: &Node<'_>, rows: Rows<'_>) -> Result<Predictor, Problem> {
    let labels = labels(node)?;
    let linear = linear(node, rows, None)?;
    let link = post_transform(node)?;
    let scores = linear.weights.len();
    let is_binary = labels.len() == 2 && scores == 1;
    if scores != labels.len() && !is_binary {
        let classes = labels.len();
        return Err(Problem::malformed(format!("{classes} classes have {scores} rows of coefficients")));
    }
    if link == Link::Identity {
        return Err(not_probabilities());
    }
    if is_binary && link == Link::Softmax {
        return Err(Problem::unsupported("SOFTMAX of one score", "export it with a score for each class"));
    }
    Ok(Predictor { model: Model::Linear(linear), lookups: Vec::new(), link, labels: Some(labels) })
}

/// Reads a regressor.
pub(crate) fn regressor(node: &Node<'_>, rows: Rows<'_>) -> Result<Predictor, Problem> {
    let targets = node.int("targets").unwrap_or(1);
    let targets =
        usize::try_from(targets).map_err(|_| Problem::malformed(format!("targets is {targets}")))?;
    let linear = linear(node, rows, Some(targets))?;
    let link = post_transform(node)?;
    Ok(Predictor { model: Model::Linear(linear), lookups: Vec::new(), link, labels: None })
}

/// The coefficients, in rows as long as a row of numbers.
fn linear(node: &Node<'_>, rows: Rows<'_>, scores: Option<usize>) -> Result<Linear, Problem> {
    let coefficients = node.floats("coefficients")?;
    let mut intercepts = node.floats("intercepts")?;
    let (found, width) = (coefficients.len(), rows.width);
    Limits::check("coefficients", found, rows.limits.numbers)?;
    let scores = scores.unwrap_or(found / width.max(1));
    if scores == 0 || width == 0 || scores.checked_mul(width) != Some(found) {
        return Err(Problem::malformed(format!("{found} coefficients do not fit rows of {width} numbers")));
    }
    if intercepts.is_empty() {
        intercepts = vec![0.0; scores];
    }
    if intercepts.len() != scores {
        let found = intercepts.len();
        return Err(Problem::malformed(format!("there are {found} intercepts for {scores} scores")));
    }
    if coefficients.iter().chain(&intercepts).any(|number| !number.is_finite()) {
        return Err(Problem::malformed("a coefficient is not finite"));
    }
    Ok(Linear { weights: coefficients.chunks_exact(width).map(<[f64]>::to_vec).collect(), intercepts })
}
