//! `GradientBoosting` and `HistGradientBoosting` of scikit-learn.

use crate::data::seen::Seen;
use crate::ensemble::form::{Node, Side};
use crate::ensemble::precision::Precision;
use crate::read::builder::Builder;
use crate::read::error::Problem;
use crate::read::model::{Link, Model, Output};
use crate::read::skops::file::File;
use crate::read::skops::schema::Object;
use crate::read::skops::steps::EXPORT;
use crate::read::skops::trees::{Nodes, Predictor, index_of, values};

/// The words of 32 bits in a set of categories.
const SET_WORDS: usize = 8;

/// Reads a `GradientBoostingClassifier` or `GradientBoostingRegressor`. Values are compared in 32 bits.
pub(crate) fn gradient(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Predictor, Problem> {
    let loss = model.option("loss");
    let output = output(file, model)?;
    let (link, scores) = match (&output, &loss[..]) {
        (Output::Classes(labels), "log_loss" | "deviance") if labels.len() > 2 => {
            (Link::Softmax, labels.len())
        }
        (Output::Classes(_), "log_loss" | "deviance") => (Link::Logistic { scale: 1.0 }, 1),
        (Output::Classes(labels), "exponential") if labels.len() == 2 => (Link::Logistic { scale: 2.0 }, 1),
        (Output::Values(_), "squared_error" | "absolute_error" | "huber" | "quantile") => (Link::Identity, 1),
        _ => return Err(unknown_loss(&loss)),
    };
    let base = start(file, model, scores, &link)?;
    let rate = file.number(model, "learning_rate")?;
    let mut builder = Builder::new(scores, *file.limits);
    for round in model.get("estimators_")?.items()? {
        let round = round?.items()?;
        check_round(round.len(), scores)?;
        for (score, tree) in round.enumerate() {
            let nodes = Nodes::read(file, tree?)?;
            builder.add(nodes.len(), |builder, index| match nodes.split(index)? {
                Some(split) => Ok(split),
                None => builder.leaf(score, nodes.value(index).first().copied().unwrap_or(f64::NAN)),
            })?;
        }
    }
    let ensemble = builder.finish(inputs, Precision::Single, base, rate)?;
    Ok((Model::Trees(ensemble), link, output))
}

/// The scores before the first tree.
fn start(file: &File<'_>, model: Object<'_>, scores: usize, link: &Link) -> Result<Vec<f64>, Problem> {
    let init = model.get("init_")?;
    if init.string().as_deref() == Some("zero") {
        return Ok(vec![0.0; scores]);
    }
    match (init.class(), link) {
        ("DummyRegressor", Link::Identity) => file.counted(init, "constant_", 1),
        ("DummyClassifier", Link::Softmax | Link::Logistic { .. }) if init.option("strategy") == "prior" => {
            let epsilon = f64::from(f32::EPSILON);
            let shares = file.counted(init, "class_prior_", scores.max(2))?;
            let shares: Vec<_> =
                shares.into_iter().map(|share| share.clamp(epsilon, 1.0 - epsilon)).collect();
            if let Link::Logistic { scale } = link {
                return Ok(vec![(shares[1] / (1.0 - shares[1])).ln() / scale]);
            }
            let mean = shares.iter().map(|share| share.ln()).sum::<f64>() / scores as f64;
            Ok(shares.iter().map(|share| share.ln() - mean).collect())
        }
        (class, _) => Err(Problem::unsupported(format!("init with a {}", Seen::new(class)), EXPORT)),
    }
}

/// Reads a `HistGradientBoostingClassifier` or `HistGradientBoostingRegressor`. Values are compared in 64 bits.
pub(crate) fn histogram(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Predictor, Problem> {
    let loss = model.option("loss");
    let output = output(file, model)?;
    let (link, scores) = match (&output, &loss[..]) {
        (Output::Classes(labels), "log_loss") if labels.len() > 2 => (Link::Softmax, labels.len()),
        (Output::Classes(_), "log_loss") => (Link::Logistic { scale: 1.0 }, 1),
        (Output::Values(_), "squared_error" | "absolute_error" | "quantile") => (Link::Identity, 1),
        (Output::Values(_), "poisson" | "gamma") => (Link::Exp, 1),
        _ => return Err(unknown_loss(&loss)),
    };
    let base = file.counted(model, "_baseline_prediction", scores)?;
    let mut builder = Builder::new(scores, *file.limits);
    for round in model.get("_predictors")?.items()? {
        let round = round?.items()?;
        check_round(round.len(), scores)?;
        for (score, tree) in round.enumerate() {
            histogram_tree(file, tree?, &mut builder, score)?;
        }
    }
    let ensemble = builder.finish(inputs, Precision::Double, base, 1.0)?;
    Ok((Model::Trees(ensemble), link, output))
}

fn histogram_tree(
    file: &File<'_>,
    tree: Object<'_>,
    builder: &mut Builder,
    score: usize,
) -> Result<(), Problem> {
    let nodes = file.array(tree.get("nodes")?)?;
    let field = |name| nodes.field(name);
    let (left, right, feature) = (field("left")?, field("right")?, field("feature_idx")?);
    let (threshold, value, is_leaf) = (field("num_threshold")?, field("value")?, field("is_leaf")?);
    let (missing, is_category, set) =
        (field("missing_go_to_left")?, field("is_categorical")?, field("bitset_idx")?);
    let sets = file.numbers(tree, "raw_left_cat_bitsets")?;
    builder.add(nodes.len(), |builder, index| {
        if is_leaf[index] > 0.0 {
            return builder.leaf(score, value[index]);
        }
        let feature = index_of(feature[index], "a feature")?;
        let (left, right) = (index_of(left[index], "a child")?, index_of(right[index], "a child")?);
        let missing = if missing[index] > 0.0 { Side::Left } else { Side::Right };
        if is_category[index] > 0.0 {
            let start = index_of(set[index], "a set of categories")? as usize * SET_WORDS;
            let words = sets.get(start..start + SET_WORDS);
            let words = words.ok_or_else(|| {
                Problem::malformed(format!("node {index} has a set of categories that is not there"))
            })?;
            let set = builder.sets();
            let word = |number: f64| index_of(number, "a set of categories").map(u64::from);
            let set_words = words.chunks_exact(2).map(|pair| Ok(word(pair[0])? | word(pair[1])? << 32));
            builder.set(set_words.collect::<Result<_, Problem>>()?);
            return Ok(Node::Category { feature, set, left, right, missing });
        }
        let threshold = threshold[index];
        // A split on missing values only has an infinite threshold.
        let is_infinite = threshold.is_infinite() && threshold > 0.0;
        let threshold = if is_infinite { f64::MAX } else { threshold };
        Ok(Node::Split { feature, threshold, left, right, missing })
    })
}

fn output(file: &File<'_>, model: Object<'_>) -> Result<Output, Problem> {
    if model.class().ends_with("Classifier") {
        Ok(Output::Classes(file.labels(model, "classes_")?))
    } else {
        values(1)
    }
}

fn check_round(found: usize, scores: usize) -> Result<(), Problem> {
    if found == scores {
        return Ok(());
    }
    Err(Problem::malformed(format!("a round of boosting must have {scores} trees, got {found}")))
}

fn unknown_loss(loss: &str) -> Problem {
    Problem::unsupported(format!("loss {}", Seen::new(loss)), EXPORT)
}
