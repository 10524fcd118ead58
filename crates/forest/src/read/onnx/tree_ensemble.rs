//! `TreeEnsemble` of ai.onnx.ml 5: inner nodes and leaves in lists of their own, which all trees share.

use crate::ensemble::form::OUTPUTS_MAX;
use crate::read::error::{Limits, Problem};
use crate::read::model::{Link, Model};
use crate::read::onnx::branches::{Branch, Branches, Mode, Predictor, Split};
use crate::read::onnx::messages::Node;
use crate::read::onnx::trees::{Rows, feature, same_length, targets, unsupported_aggregate, zeros};
use crate::read::whole::whole;

/// Reads an ensemble. With the link softmax, its scores are the probabilities of classes.
pub(crate) fn read(node: &Node<'_>, rows: Rows<'_>) -> Result<Predictor, Problem> {
    let outputs = targets(node.int("n_targets").unwrap_or(1))?;
    let mut branches = Branches { outputs, base: vec![0.0; outputs], ..Branches::default() };
    let scale = match node.int("aggregate_function").unwrap_or(1) {
        0 => 1.0 / node.ints("tree_roots").len().max(1) as f64,
        1 => 1.0,
        2 => return Err(unsupported_aggregate("MIN")),
        3 => return Err(unsupported_aggregate("MAX")),
        other => return Err(unsupported_aggregate(&other.to_string())),
    };
    let link = match node.int("post_transform").unwrap_or(0) {
        0 => Link::Identity,
        1 => Link::Softmax,
        2 => Link::Logistic { scale: 1.0 },
        other => {
            let what = format!("post_transform {other}");
            return Err(Problem::unsupported(what, "use NONE, LOGISTIC or SOFTMAX"));
        }
    };
    leaves(node, &mut branches, scale, rows.limits)?;
    nodes(node, &mut branches, rows.limits)?;
    let (ensemble, lookups) = branches.grow(rows.width, rows.precision, rows.limits)?;
    let labels = (link == Link::Softmax && outputs > 1)
        .then(|| (0..outputs.min(OUTPUTS_MAX)).map(|class| class.to_string()).collect());
    Ok(Predictor { model: Model::Trees(ensemble), lookups, link, labels })
}

/// The scores in the leaves: each has the score of one target.
fn leaves(node: &Node<'_>, to: &mut Branches, scale: f64, limits: &Limits) -> Result<(), Problem> {
    let weights = node.floats("leaf_weights")?;
    let ids = node.ints("leaf_targetids");
    same_length("leaf_targetids", ids, weights.len())?;
    to.leaves = zeros(weights.len(), to.outputs, limits)?;
    for (leaf, (id, weight)) in ids.iter().zip(weights).enumerate() {
        let target = usize::try_from(*id).ok().filter(|target| *target < to.outputs);
        let target = target.ok_or_else(|| {
            Problem::malformed(format!("leaf {leaf} is for target {id}, which is not there"))
        })?;
        to.leaves[leaf * to.outputs + target] = weight * scale;
    }
    Ok(())
}

/// The inner nodes, and one node for each place that refers to a leaf.
fn nodes(node: &Node<'_>, to: &mut Branches, limits: &Limits) -> Result<(), Problem> {
    let features = node.ints("nodes_featureids");
    let count = features.len();
    Limits::check("nodes", count.saturating_mul(3), limits.nodes)?;
    let list = |name| same_length(name, node.ints(name), count);
    let (yes, yes_leaf) = (list("nodes_truenodeids")?, list("nodes_trueleafs")?);
    let (no, no_leaf) = (list("nodes_falsenodeids")?, list("nodes_falseleafs")?);
    let modes = node.floats("nodes_modes")?;
    let values = node.floats("nodes_splits")?;
    same_length("nodes_modes", &modes, count)?;
    same_length("nodes_splits", &values, count)?;
    let tracks = node.ints("nodes_missing_value_tracks_true");
    let tracks = if tracks.is_empty() { &vec![0; count] } else { tracks };
    same_length("nodes_missing_value_tracks_true", tracks, count)?;
    to.members = node.floats("membership_values")?;
    let mut next_member = 0;
    // Leaves come after the inner nodes.
    let mut leaves = Vec::new();
    for index in 0..count {
        let mode = mode(modes[index])?;
        let members = if mode == Mode::Member {
            let rest = to.members.get(next_member..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or_else(|| Problem::malformed("a set of membership_values is missing"))?;
            let length = rest.iter().position(|value| value.is_nan()).unwrap_or(rest.len());
            let found = (next_member, next_member + length);
            next_member += length + 1;
            found
        } else {
            (0, 0)
        };
        let mut child = |id: i64, is_leaf: i64| child(id, is_leaf != 0, count, &mut leaves);
        let (yes, no) = match (yes[index], yes_leaf[index], no[index], no_leaf[index]) {
            // A tree that is one leaf has a node with this leaf on both sides.
            (yes, 1.., no, 1..) if yes == no => {
                let leaf = u32::try_from(yes).map_err(|_| bad_child(yes))?;
                to.nodes.push(Branch::Leaf(leaf));
                continue;
            }
            (yes, yes_leaf, no, no_leaf) => (child(yes, yes_leaf)?, child(no, no_leaf)?),
        };
        to.nodes.push(Branch::Split(Split {
            feature: feature(features[index])?,
            mode,
            value: values[index],
            members,
            yes,
            no,
            missing_passes: tracks[index] != 0,
        }));
    }
    to.nodes.extend(leaves);
    let roots = node.ints("tree_roots").iter().map(|root| {
        usize::try_from(*root)
            .ok()
            .filter(|root| *root < count)
            .ok_or_else(|| Problem::malformed(format!("a tree has the root {root}, which is not there")))
    });
    to.roots = roots.collect::<Result<_, _>>()?;
    Ok(())
}

/// The index of a child among `count` inner nodes and the leaves after them.
fn child(id: i64, is_leaf: bool, count: usize, leaves: &mut Vec<Branch>) -> Result<u32, Problem> {
    let id = u32::try_from(id).map_err(|_| bad_child(id))?;
    if !is_leaf {
        return Ok(id);
    }
    leaves.push(Branch::Leaf(id));
    u32::try_from(count + leaves.len() - 1).map_err(|_| bad_child(id.into()))
}

fn bad_child(id: i64) -> Problem {
    Problem::malformed(format!("a node has the child {id}, which is not there"))
}

fn mode(number: f64) -> Result<Mode, Problem> {
    const MODES: [Mode; 7] =
        [Mode::AtMost, Mode::Below, Mode::AtLeast, Mode::Above, Mode::Equal, Mode::Unequal, Mode::Member];
    let mode = whole(number).and_then(|number| MODES.get(number));
    mode.copied().ok_or_else(|| Problem::malformed(format!("a node has the mode {number}")))
}
