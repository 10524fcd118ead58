//! Linear models of scikit-learn.

use crate::read::error::{Limits, Problem};
use crate::read::model::{Linear, Link, Model, Output};
use crate::read::skops::file::File;
use crate::read::skops::schema::Object;
use crate::read::skops::steps::EXPORT;
use crate::read::skops::trees::{Predictor, values};

/// Reads a classifier that has probabilities.
pub(crate) fn classifier(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Predictor, Problem> {
    let labels = file.labels(model, "classes_")?;
    let linear = linear(file, model, inputs)?;
    let scores = linear.weights.len();
    let is_binary = labels.len() == 2 && scores == 1;
    if scores != labels.len() && !is_binary {
        let classes = labels.len();
        return Err(Problem::malformed(format!("{classes} classes have {scores} rows of coefficients")));
    }
    let link = match (model.class(), &model.option("multi_class")[..]) {
        ("SGDClassifier", _) if model.option("loss") != "log_loss" => {
            return Err(Problem::unsupported(
                "a classifier without probabilities",
                "train it with loss=\"log_loss\"",
            ));
        }
        // Two classes have one score in each way, but multinomial ones have the softmax of it and its opposite.
        (_, "multinomial") if is_binary => Link::Logistic { scale: 2.0 },
        _ if is_binary => Link::Logistic { scale: 1.0 },
        ("SGDClassifier", _) | (_, "ovr") => Link::LogisticShares,
        _ if model.option("solver") == "liblinear" => Link::LogisticShares,
        _ => Link::Softmax,
    };
    Ok((Model::Linear(linear), link, Output::Classes(labels)))
}

/// Reads a regressor.
pub(crate) fn regressor(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Predictor, Problem> {
    let linear = linear(file, model, inputs)?;
    let is_exp = match model.class() {
        "PoissonRegressor" | "GammaRegressor" => true,
        "TweedieRegressor" => match &model.option("link")[..] {
            "auto" => file.number(model, "power")? > 0.0,
            "log" => true,
            "identity" => false,
            _ => return Err(Problem::unsupported("a link function of your own", EXPORT)),
        },
        _ => false,
    };
    let output = values(linear.weights.len())?;
    Ok((Model::Linear(linear), if is_exp { Link::Exp } else { Link::Identity }, output))
}

fn linear(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Linear, Problem> {
    let coefficients = file.array(model.get("coef_")?)?;
    let scores = match coefficients.shape[..] {
        [width] if width == inputs => 1,
        [scores, width] if width == inputs && scores > 0 => scores,
        _ => {
            let shape = &coefficients.shape;
            return Err(Problem::malformed(format!(
                "coefficients of shape {shape:?} do not fit {inputs} inputs"
            )));
        }
    };
    Limits::check("coefficients", coefficients.len(), file.limits.numbers)?;
    let coefficients = coefficients.numbers()?;
    let mut intercepts = file.numbers(model, "intercept_")?;
    if intercepts.len() == 1 {
        intercepts = vec![intercepts[0]; scores];
    }
    if intercepts.len() != scores {
        let found = intercepts.len();
        return Err(Problem::malformed(format!("there are {found} intercepts for {scores} scores")));
    }
    if coefficients.iter().chain(&intercepts).any(|number| !number.is_finite()) {
        return Err(Problem::malformed("a coefficient is not finite"));
    }
    Ok(Linear { weights: coefficients.chunks_exact(inputs).map(<[f64]>::to_vec).collect(), intercepts })
}
