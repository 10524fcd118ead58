//! Decision trees and forests of scikit-learn. Values are compared in 32 bits with thresholds of 64.

use std::collections::HashMap;

use crate::ensemble::form::{Combine, Ensemble, Node, OUTPUTS_MAX, RawEnsemble, Side, Tree};
use crate::ensemble::precision::Precision;
use crate::read::arrange::arrange;
use crate::read::error::{Limits, Problem};
use crate::read::model::{Link, Model, Output};
use crate::read::skops::file::{File, several_targets};
use crate::read::skops::schema::Object;
use crate::read::whole::whole;

/// The model, its link and its outputs.
pub(crate) type Predictor = (Model, Link, Output);

/// The nodes of a tree.
pub(crate) struct Nodes {
    left: Vec<f64>,
    right: Vec<f64>,
    feature: Vec<f64>,
    threshold: Vec<f64>,
    missing: Vec<f64>,
    /// The numbers of all nodes, `width` for each.
    values: Vec<f64>,
    width: usize,
}

impl Nodes {
    /// The nodes of a fitted tree.
    pub(crate) fn read(file: &File<'_>, tree: Object<'_>) -> Result<Self, Problem> {
        let tree = tree.get("tree_")?;
        let nodes = file.array(tree.get("nodes")?)?;
        let values = file.array(tree.get("values")?)?;
        let count = nodes.len();
        let width = match values.shape[..] {
            [rows, outputs, classes] if rows == count => outputs.saturating_mul(classes),
            _ => return Err(Problem::malformed("`values` does not have a row for each node")),
        };
        Ok(Self {
            left: nodes.field("left_child")?,
            right: nodes.field("right_child")?,
            feature: nodes.field("feature")?,
            threshold: nodes.field("threshold")?,
            missing: nodes.field("missing_go_to_left")?,
            values: values.numbers()?,
            width,
        })
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.left.len()
    }

    /// The split of a node; nothing for a leaf.
    pub(crate) fn split(&self, index: usize) -> Result<Option<Node>, Problem> {
        // A leaf has -1.
        if self.left[index] < 0.0 {
            return Ok(None);
        }
        let child = |child: f64| index_of(child, "a child");
        let threshold = self.threshold[index];
        // A split on missing values only has an infinite threshold.
        let is_infinite = threshold.is_infinite() && threshold > 0.0;
        Ok(Some(Node::Split {
            feature: index_of(self.feature[index], "a feature")?,
            threshold: if is_infinite { f64::from(f32::MAX) } else { Precision::Single.at_most(threshold) },
            left: child(self.left[index])?,
            right: child(self.right[index])?,
            missing: if self.missing[index] > 0.0 { Side::Left } else { Side::Right },
        }))
    }

    /// The numbers of a node.
    pub(crate) fn value(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}

/// A number of a file as an index.
pub(crate) fn index_of(number: f64, what: &str) -> Result<u32, Problem> {
    whole(number)
        .and_then(|index| u32::try_from(index).ok())
        .ok_or_else(|| Problem::malformed(format!("a node has {what} with the index {number}")))
}

/// A forest while it is read. Equal leaves are kept once.
struct Growing<'a> {
    limits: &'a Limits,
    outputs: usize,
    is_shares: bool,
    nodes: usize,
    leaves: Vec<f64>,
    known: HashMap<Vec<u64>, u32>,
    trees: Vec<Tree>,
}

impl Growing<'_> {
    fn add(&mut self, nodes: &Nodes) -> Result<(), Problem> {
        if nodes.width != self.outputs {
            let (found, outputs) = (nodes.width, self.outputs);
            return Err(Problem::malformed(format!(
                "a tree has {found} outputs where {outputs} are expected"
            )));
        }
        self.nodes = self.nodes.saturating_add(nodes.len());
        Limits::check("trees", self.trees.len() + 1, self.limits.trees)?;
        Limits::check("nodes", self.nodes, self.limits.nodes)?;
        let tree = arrange(nodes.len(), 0, |index| match nodes.split(index)? {
            Some(split) => Ok(split),
            None => self.leaf(nodes.value(index)),
        })?;
        self.trees.push(tree);
        Ok(())
    }

    fn leaf(&mut self, value: &[f64]) -> Result<Node, Problem> {
        // Versions before 1.3 had counts in place of shares.
        let sum: f64 = if self.is_shares { value.iter().sum() } else { 1.0 };
        if self.is_shares && (value.iter().any(|share| *share < 0.0) || sum <= 0.0) {
            return Err(Problem::malformed("a leaf has no shares of classes"));
        }
        let value: Vec<_> = value.iter().map(|number| number / sum).collect();
        let next = u32::try_from(self.leaves.len() / self.outputs).unwrap_or(u32::MAX);
        let values = *self.known.entry(value.iter().map(|number| number.to_bits()).collect()).or_insert(next);
        if values == next {
            self.leaves.extend(value);
            Limits::check("numbers in leaves", self.leaves.len(), self.limits.numbers)?;
        }
        Ok(Node::Leaf { values })
    }
}

/// The model of one tree, or of the forest of `estimators_`.
pub(crate) fn read(file: &File<'_>, model: Object<'_>, inputs: usize) -> Result<Predictor, Problem> {
    let targets = file.count(model, "n_outputs_")?;
    let output = if model.class().ends_with("Classifier") {
        if targets != 1 {
            return Err(several_targets());
        }
        Output::Classes(file.labels(model, "classes_")?)
    } else {
        values(targets)?
    };
    let (outputs, is_shares) = match &output {
        Output::Classes(labels) => (labels.len(), true),
        Output::Values(names) => (names.len(), false),
    };
    let mut forest = Growing {
        limits: file.limits,
        outputs,
        is_shares,
        nodes: 0,
        leaves: Vec::new(),
        known: HashMap::new(),
        trees: Vec::new(),
    };
    if model.find("estimators_").is_some() {
        for tree in model.get("estimators_")?.items()? {
            forest.add(&Nodes::read(file, tree?)?)?;
        }
    } else {
        forest.add(&Nodes::read(file, model)?)?;
    }
    let Growing { leaves, trees, .. } = forest;
    let (precision, combine, sets) = (Precision::Single, Combine::Mean, Vec::new());
    let ensemble = Ensemble::new(RawEnsemble { inputs, outputs, precision, combine, leaves, sets, trees })?;
    Ok((Model::Trees(ensemble), Link::Identity, output))
}

/// The names of the values of a regression.
pub(crate) fn values(count: usize) -> Result<Output, Problem> {
    Limits::check("outputs", count, OUTPUTS_MAX)?;
    Ok(Output::Values(match count {
        0 => return Err(Problem::malformed("the model has no outputs")),
        1 => vec!["prediction".to_owned()],
        _ => (0..count).map(|index| format!("prediction_{index}")).collect(),
    }))
}
