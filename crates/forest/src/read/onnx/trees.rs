//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor` of ai.onnx.ml 1 to 4: nodes and leaf weights in parallel lists.

use crate::ensemble::form::OUTPUTS_MAX;
use crate::ensemble::precision::Precision;
use crate::read::error::{Limits, Problem};
use crate::read::model::{Link, Model};
use crate::read::onnx::branches::{Branch, Branches, Mode, Predictor, Split};
use crate::read::onnx::messages::{Node, utf8};

/// The trees of a node. A node of a tree has a tree id and a node id.
struct Trees {
    branches: Branches,
    /// The ids of each node, and its index; sorted.
    ids: Vec<(i64, i64, u32)>,
}

/// What an operator is applied to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// How many numbers a row has.
    pub(crate) width: usize,
    pub(crate) precision: Precision,
    pub(crate) limits: &'a Limits,
}

/// Reads a classifier.
pub(crate) fn classifier(node: &Node<'_>, rows: Rows<'_>) -> Result<Predictor, Problem> {
    let labels = labels(node)?;
    let ids = node.ints("class_ids");
    // Two classes and weights for one of them: the sum is the score of the second class.
    let is_binary = labels.len() == 2 && ids.iter().all(|id| Some(id) == ids.first());
    let outputs = if is_binary { 1 } else { labels.len() };
    let mut trees = Trees::read(node, outputs, rows.limits)?;
    trees.add_weights(node, "class", |id| if is_binary { Some(0) } else { usize::try_from(id).ok() })?;
    let base = node.floats("base_values")?;
    trees.branches.base = match (&base[..], is_binary) {
        ([], _) => vec![0.0; outputs],
        ([first, second], true) if first.total_cmp(second).is_eq() || *first == 0.0 => vec![*second],
        _ if base.len() == outputs => base,
        _ => {
            let (found, classes) = (base.len(), labels.len());
            return Err(Problem::malformed(format!("there are {found} base values for {classes} classes")));
        }
    };
    let link = post_transform(node)?;
    if link == Link::Softmax && is_binary {
        return Err(Problem::unsupported("SOFTMAX of one score", "export it with a score for each class"));
    }
    if link == Link::Identity && !trees.branches.are_probabilities() {
        return Err(not_probabilities());
    }
    let (ensemble, lookups) = trees.branches.grow(rows.width, rows.precision, rows.limits)?;
    Ok(Predictor { model: Model::Trees(ensemble), lookups, link, labels: Some(labels) })
}

/// Reads a regressor.
pub(crate) fn regressor(node: &Node<'_>, rows: Rows<'_>) -> Result<Predictor, Problem> {
    let outputs = node.int("n_targets").unwrap_or(1);
    let outputs = targets(outputs)?;
    let mut trees = Trees::read(node, outputs, rows.limits)?;
    trees.add_weights(node, "target", |id| usize::try_from(id).ok())?;
    match node.text("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => {}
        "AVERAGE" => {
            let count = trees.branches.roots.len() as f64;
            trees.branches.leaves.iter_mut().for_each(|leaf| *leaf /= count);
        }
        other => return Err(unsupported_aggregate(other)),
    }
    trees.branches.base = base(node.floats("base_values")?, outputs)?;
    let link = post_transform(node)?;
    let (ensemble, lookups) = trees.branches.grow(rows.width, rows.precision, rows.limits)?;
    Ok(Predictor { model: Model::Trees(ensemble), lookups, link, labels: None })
}

impl Trees {
    /// The nodes. Leaves have no weight yet.
    fn read(node: &Node<'_>, outputs: usize, limits: &Limits) -> Result<Self, Problem> {
        let tree_ids = node.ints("nodes_treeids");
        let count = tree_ids.len();
        Limits::check("nodes", count, limits.nodes)?;
        let list = |name| same_length(name, node.ints(name), count);
        let node_ids = list("nodes_nodeids")?;
        let [features, yes, no] = ["nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids"].map(list);
        let (features, yes, no) = (features?, yes?, no?);
        let modes = same_length("nodes_modes", node.texts("nodes_modes"), count)?;
        let values = node.floats("nodes_values")?;
        same_length("nodes_values", &values, count)?;
        let tracks = node.ints("nodes_missing_value_tracks_true");
        let tracks = if tracks.is_empty() { &vec![0; count] } else { tracks };
        same_length("nodes_missing_value_tracks_true", tracks, count)?;
        let mut ids: Vec<_> =
            (0_u32..).zip(tree_ids).zip(node_ids).map(|((i, tree), id)| (*tree, *id, i)).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
            let (tree, id, _) = twice[0];
            return Err(Problem::malformed(format!("tree {tree} has two nodes with the id {id}")));
        }
        let mut trees = Self { branches: Branches { outputs, ..Branches::default() }, ids };
        let mut leaves = 0;
        let mut is_child = vec![false; count];
        for index in 0..count {
            let Some(mode) = mode(modes[index])? else {
                trees.branches.nodes.push(Branch::Leaf(leaves));
                leaves += 1;
                continue;
            };
            let [yes, no] = [yes, no].map(|ids| trees.find(tree_ids[index], ids[index]));
            let (yes, no) = (yes?, no?);
            is_child[yes as usize] = true;
            is_child[no as usize] = true;
            trees.branches.nodes.push(Branch::Split(Split {
                feature: feature(features[index])?,
                mode,
                value: values[index],
                members: (0, 0),
                yes,
                no,
                missing_passes: tracks[index] != 0,
            }));
        }
        trees.branches.roots = trees.roots(&is_child)?;
        trees.branches.leaves = zeros(leaves as usize, outputs, limits)?;
        Ok(trees)
    }

    /// The index of the node with these ids.
    fn find(&self, tree: i64, id: i64) -> Result<u32, Problem> {
        let found = self.ids.binary_search_by_key(&(tree, id), |(tree, id, _)| (*tree, *id));
        let found =
            found.map_err(|_| Problem::malformed(format!("tree {tree} has no node with the id {id}")))?;
        Ok(self.ids[found].2)
    }

    /// The node of each tree that is no child of another.
    fn roots(&self, is_child: &[bool]) -> Result<Vec<usize>, Problem> {
        let roots = self.ids.chunk_by(|a, b| a.0 == b.0).map(|tree| {
            let root = tree.iter().find(|(_, _, index)| !is_child[*index as usize]);
            root.map(|(_, _, index)| *index as usize)
                .ok_or_else(|| Problem::malformed(format!("tree {} has no root", tree[0].0)))
        });
        roots.collect()
    }

    /// Adds the weights of leaves, from the attributes that begin with `prefix`. `output` is the output of an id.
    fn add_weights(
        &mut self,
        node: &Node<'_>,
        prefix: &str,
        output: impl Fn(i64) -> Option<usize>,
    ) -> Result<(), Problem> {
        let [trees, nodes, ids] =
            ["treeids", "nodeids", "ids"].map(|list| node.ints(&format!("{prefix}_{list}")));
        let weights = node.floats(&format!("{prefix}_weights"))?;
        if [trees.len(), nodes.len(), ids.len()] != [weights.len(); 3] {
            return Err(Problem::malformed(format!("the lists of {prefix} weights have different lengths")));
        }
        for (((tree, id), output_id), weight) in trees.iter().zip(nodes).zip(ids).zip(weights) {
            let index = self.find(*tree, *id)?;
            let Branch::Leaf(leaf) = self.branches.nodes[index as usize] else {
                return Err(Problem::malformed(format!(
                    "node {id} of tree {tree} has a weight, but is no leaf"
                )));
            };
            let output = output(*output_id).filter(|output| *output < self.branches.outputs);
            let output = output.ok_or_else(|| {
                Problem::malformed(format!("a weight is for {prefix} {output_id}, which is not there"))
            })?;
            self.branches.leaves[leaf as usize * self.branches.outputs + output] += weight;
        }
        Ok(())
    }
}

/// How many scores a regressor has.
pub(crate) fn targets(count: i64) -> Result<usize, Problem> {
    let found = usize::try_from(count).ok().filter(|count| (1..=OUTPUTS_MAX).contains(count));
    found.ok_or_else(|| Problem::malformed(format!("there are {count} targets, not 1 to {OUTPUTS_MAX}")))
}

/// The index of a feature.
pub(crate) fn feature(id: i64) -> Result<u32, Problem> {
    u32::try_from(id).map_err(|_| Problem::malformed(format!("a branch has feature {id}")))
}

/// Room for the scores of leaves, within the limits.
pub(crate) fn zeros(leaves: usize, outputs: usize, limits: &Limits) -> Result<Vec<f64>, Problem> {
    let numbers = leaves.saturating_mul(outputs);
    Limits::check("numbers in leaves", numbers, limits.numbers)?;
    Ok(vec![0.0; numbers])
}

/// Base values, one per output.
pub(crate) fn base(base: Vec<f64>, outputs: usize) -> Result<Vec<f64>, Problem> {
    match base.len() {
        0 => Ok(vec![0.0; outputs]),
        found if found == outputs => Ok(base),
        found => Err(Problem::malformed(format!("there are {found} base values for {outputs} targets"))),
    }
}

pub(crate) fn same_length<'a, T>(name: &str, list: &'a [T], count: usize) -> Result<&'a [T], Problem> {
    if list.len() != count {
        let found = list.len();
        return Err(Problem::malformed(format!("{name} has {found} elements for {count} nodes")));
    }
    Ok(list)
}

/// The test of a branch; none for a leaf.
fn mode(name: &[u8]) -> Result<Option<Mode>, Problem> {
    Ok(Some(match name {
        b"LEAF" => return Ok(None),
        b"BRANCH_LEQ" => Mode::AtMost,
        b"BRANCH_LT" => Mode::Below,
        b"BRANCH_GTE" => Mode::AtLeast,
        b"BRANCH_GT" => Mode::Above,
        b"BRANCH_EQ" => Mode::Equal,
        b"BRANCH_NEQ" => Mode::Unequal,
        _ => {
            let name: String = String::from_utf8_lossy(name).chars().take(20).collect();
            return Err(Problem::malformed(format!("a node has the mode {name:?}")));
        }
    }))
}

/// The link of a node.
pub(crate) fn post_transform(node: &Node<'_>) -> Result<Link, Problem> {
    match node.text("post_transform")?.unwrap_or("NONE") {
        "NONE" => Ok(Link::Identity),
        "LOGISTIC" => Ok(Link::Logistic { scale: 1.0 }),
        "SOFTMAX" => Ok(Link::Softmax),
        other => {
            let other: String = other.chars().take(20).collect();
            Err(Problem::unsupported(format!("post_transform {other:?}"), "use NONE, LOGISTIC or SOFTMAX"))
        }
    }
}

pub(crate) fn unsupported_aggregate(name: &str) -> Problem {
    let name: String = name.chars().take(20).collect();
    Problem::unsupported(format!("aggregate_function {name:?}"), "use SUM or AVERAGE")
}

/// The classes of a classifier.
pub(crate) fn labels(node: &Node<'_>) -> Result<Vec<String>, Problem> {
    let texts = node.texts("classlabels_strings");
    let ints = ["classlabels_int64s", "classlabels_ints"].map(|name| node.ints(name));
    let labels: Vec<_> = if texts.is_empty() {
        ints.concat().iter().map(ToString::to_string).collect()
    } else {
        texts.iter().map(|text| utf8(text).map(str::to_owned)).collect::<Result<_, _>>()?
    };
    if labels.len() < 2 {
        return Err(Problem::unsupported(
            format!("a classifier with {} classes", labels.len()),
            "train it with rows of at least 2 classes",
        ));
    }
    Ok(labels)
}

pub(crate) fn not_probabilities() -> Problem {
    Problem::unsupported(
        "a classifier whose scores are not probabilities",
        "export it with post_transform LOGISTIC or SOFTMAX",
    )
}
