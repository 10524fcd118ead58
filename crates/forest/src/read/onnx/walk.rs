//! The nodes of a graph in their order: operators in front of the model, the model, and operators behind it.

use std::collections::HashMap;

use crate::data::seen::Seen;
use crate::ensemble::precision::Precision;
use crate::read::columns::Norm;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::{ImportedModel, Link, Model, Output};
use crate::read::onnx::branches::Predictor;
use crate::read::onnx::messages::{Graph, Node, Tensor};
use crate::read::onnx::table::{Columns, Element, Preparation};
use crate::read::onnx::trees::Rows;
use crate::read::onnx::{linear, prepare, tree_ensemble, trees};
use crate::read::whole::whole;

/// What a name in the graph stands for.
enum Known<'a> {
    Constant(&'a Tensor<'a>),
    Columns(Columns),
    /// The labels that the model predicts.
    Labels,
    /// The model's scores after the link.
    Scores,
}

/// A graph while its nodes are read.
struct Walk<'a> {
    limits: &'a Limits,
    known: HashMap<&'a str, Known<'a>>,
    preparation: Preparation,
    predictor: Option<Predictor>,
    handles_missing: bool,
}

/// The model of a graph.
pub(crate) fn model(graph: &Graph<'_>, limits: &Limits) -> Result<ImportedModel, ReadError> {
    let mut walk = Walk {
        limits,
        known: HashMap::new(),
        preparation: Preparation::new(limits),
        predictor: None,
        handles_missing: false,
    };
    walk.start(graph).map_err(|problem| problem.at(Format::Onnx, "inputs"))?;
    for node in &graph.nodes {
        walk.node(node).map_err(|problem| problem.at(Format::Onnx, place(node)))?;
    }
    walk.finish(graph).map_err(|problem| problem.at(Format::Onnx, "outputs"))
}

/// A node in the words of an error: its operator, and its name where it has one.
fn place(node: &Node<'_>) -> String {
    let operator = Seen::new(node.operator).to_string();
    let operator = operator.trim_matches('"');
    match node.name {
        "" => format!("a node {operator}"),
        name => format!("node {} ({operator})", Seen::new(name)),
    }
}

impl<'a> Walk<'a> {
    fn start(&mut self, graph: &'a Graph<'a>) -> Result<(), Problem> {
        for constant in &graph.constants {
            self.known.insert(constant.name, Known::Constant(constant));
        }
        // Old files list constants among the inputs, too.
        let inputs: Vec<_> =
            graph.inputs.iter().filter(|input| !self.known.contains_key(input.name)).collect();
        if inputs.is_empty() {
            return Err(Problem::malformed("the graph has no inputs"));
        }
        for input in &inputs {
            let columns = self.preparation.input(input, inputs.len() > 1)?;
            self.known.insert(input.name, Known::Columns(columns));
        }
        Ok(())
    }

    fn node(&mut self, node: &'a Node<'a>) -> Result<(), Problem> {
        if !matches!(node.domain, "" | "ai.onnx" | "ai.onnx.ml") {
            return Err(unsupported(node));
        }
        if node.operator == "Constant" {
            let tensor = node.attribute("value").and_then(|value| value.tensor.as_ref());
            let tensor =
                tensor.ok_or_else(|| Problem::unsupported("a constant that is no tensor", "use a tensor"))?;
            return self.define(node, 0, Known::Constant(tensor));
        }
        match self.known.get(node.inputs.first().copied().unwrap_or_default()) {
            Some(Known::Columns(columns)) => {
                let columns = columns.clone();
                self.on_columns(node, &columns)
            }
            Some(Known::Labels) => self.on_labels(node),
            Some(Known::Scores) => self.on_scores(node),
            Some(Known::Constant(_)) => self.on_constant(node),
            None => Err(Problem::malformed("its input is not computed before it")),
        }
    }

    /// Names what an output of a node stands for.
    fn define(&mut self, node: &Node<'a>, output: usize, known: Known<'a>) -> Result<(), Problem> {
        match node.outputs.get(output) {
            None | Some(&"") => Ok(()),
            Some(name) => match self.known.insert(name, known) {
                None => Ok(()),
                Some(_) => Err(Problem::malformed(format!("{} is computed twice", Seen::new(name)))),
            },
        }
    }

    fn on_columns(&mut self, node: &'a Node<'a>, from: &Columns) -> Result<(), Problem> {
        let to = &mut self.preparation;
        let columns = match node.operator {
            "Identity" => from.clone(),
            "Scaler" => prepare::scaler(node, from, to)?,
            "Imputer" => prepare::imputer(node, from, to)?,
            "Normalizer" => prepare::normalizer(node, from, to)?,
            "OneHotEncoder" => prepare::one_hot(node, from, to)?,
            "LabelEncoder" => prepare::label_encoder(node, from, to)?,
            "CategoryMapper" => prepare::category_mapper(node, from, to)?,
            "Binarizer" => prepare::binarizer(node, from, to)?,
            "Cast" => prepare::cast(node, from, to)?,
            "Concat" | "FeatureVectorizer" => self.joined(node)?,
            "Flatten" if node.int("axis").unwrap_or(1) == 1 => from.clone(),
            "Reshape" => self.reshaped(node, from)?,
            "Gather" | "ArrayFeatureExtractor" => {
                let is_by_column = node.operator == "ArrayFeatureExtractor" || is_last_axis(node);
                let indices = self.constant(node, 1)?;
                if !is_by_column {
                    return Err(Problem::unsupported("a choice of rows", "choose columns: axis 1"));
                }
                prepare::chosen(&indices, from, &mut self.preparation)?
            }
            "Add" | "Sub" | "Mul" | "Div" => {
                let constant = self.constant(node, 1)?;
                prepare::arithmetic(node.operator, &constant, from, &mut self.preparation)?
            }
            _ => return self.predictor(node, from),
        };
        self.define(node, 0, Known::Columns(columns))
    }

    /// Reads the model.
    fn predictor(&mut self, node: &'a Node<'a>, from: &Columns) -> Result<(), Problem> {
        let precision = match from.element {
            Element::Number(precision) => precision,
            Element::Text => Precision::Single,
        };
        let rows = Rows { width: from.columns.len(), precision, limits: self.limits };
        let read = match node.operator {
            "TreeEnsembleClassifier" => trees::classifier,
            "TreeEnsembleRegressor" => trees::regressor,
            "TreeEnsemble" => tree_ensemble::read,
            "LinearClassifier" => linear::classifier,
            "LinearRegressor" => linear::regressor,
            _ => return Err(unsupported(node)),
        };
        if self.predictor.is_some() {
            return Err(Problem::unsupported(
                "a second model in one file",
                "export each model to its own file",
            ));
        }
        let mut predictor = read(node, rows)?;
        self.handles_missing = node.ints("nodes_missing_value_tracks_true").iter().any(|track| *track != 0);
        let precision = match &predictor.model {
            Model::Trees(ensemble) => Some(ensemble.raw().precision),
            Model::Linear(_) => None,
        };
        let lookups = std::mem::take(&mut predictor.lookups);
        self.preparation.finish(from, lookups, precision)?;
        if predictor.labels.is_some() {
            self.define(node, 0, Known::Labels)?;
            self.define(node, 1, Known::Scores)?;
        } else {
            self.define(node, 0, Known::Scores)?;
        }
        self.predictor = Some(predictor);
        Ok(())
    }

    fn on_labels(&mut self, node: &'a Node<'a>) -> Result<(), Problem> {
        match node.operator {
            "Identity" | "Cast" | "Reshape" => self.define(node, 0, Known::Labels),
            _ => Err(unsupported(node)),
        }
    }

    fn on_scores(&mut self, node: &'a Node<'a>) -> Result<(), Problem> {
        match node.operator {
            "Identity" | "Cast" | "ZipMap" | "Reshape" => {}
            // onnxmltools writes this behind a classifier of LightGBM.
            "Mul" if matches!(self.constant(node, 1).as_deref(), Ok([1.0])) => {}
            "Exp" => match self.predictor.as_mut() {
                Some(Predictor { link: link @ Link::Identity, labels: None, .. }) => *link = Link::Exp,
                _ => return Err(unsupported(node)),
            },
            "Normalizer" if prepare::norm(node)? == Norm::L1 => {
                let link = self.predictor.as_mut().map(|predictor| &mut predictor.link);
                match link {
                    Some(link @ Link::Logistic { .. }) => *link = Link::LogisticShares,
                    // The sum is 1 already.
                    Some(Link::Softmax | Link::Identity | Link::LogisticShares) => {}
                    _ => return Err(unsupported(node)),
                }
            }
            _ => return Err(unsupported(node)),
        }
        self.define(node, 0, Known::Scores)
    }

    /// Columns may follow a constant in a sum, a product or a row; all else about constants is not supported.
    fn on_constant(&mut self, node: &'a Node<'a>) -> Result<(), Problem> {
        let Some(Known::Columns(from)) = node.inputs.get(1).and_then(|name| self.known.get(name)) else {
            return Err(unsupported(node));
        };
        let from = from.clone();
        if !matches!(node.operator, "Add" | "Mul") {
            return Err(unsupported(node));
        }
        let constant = self.constant(node, 0)?;
        let columns = prepare::arithmetic(node.operator, &constant, &from, &mut self.preparation)?;
        self.define(node, 0, Known::Columns(columns))
    }

    fn joined(&mut self, node: &Node<'a>) -> Result<Columns, Problem> {
        if node.operator == "Concat" && !is_last_axis(node) {
            return Err(Problem::unsupported("joining of rows", "join columns: axis 1"));
        }
        let parts = node.inputs.iter().map(|name| match self.known.get(name) {
            Some(Known::Columns(columns)) => Ok(columns),
            _ => Err(Problem::unsupported("joining of columns and something else", "join columns only")),
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        self.preparation.joined(&parts)
    }

    /// A shape that keeps one row per row of the client.
    fn reshaped(&mut self, node: &Node<'a>, from: &Columns) -> Result<Columns, Problem> {
        let shape = self.constant(node, 1)?;
        let width = from.columns.len();
        match shape[..] {
            // 0 keeps the number of rows, -1 stands for what remains.
            [rows, columns] if rows <= 0.0 && whole(columns) == Some(width) => {}
            [0.0, -1.0] => {}
            [-1.0] if width == 1 => {}
            _ => return Err(Problem::unsupported("a change of the number of rows", "keep one row per row")),
        }
        Ok(from.clone())
    }

    /// The numbers of an input that is a constant.
    fn constant(&self, node: &Node<'a>, input: usize) -> Result<Vec<f64>, Problem> {
        match node.inputs.get(input).and_then(|name| self.known.get(name)) {
            Some(Known::Constant(tensor)) => tensor.numbers(),
            _ => Err(Problem::unsupported(format!("input {input} that is no constant"), "use a constant")),
        }
    }

    fn finish(self, graph: &Graph<'_>) -> Result<ImportedModel, Problem> {
        let Some(Predictor { model, link, labels, .. }) = self.predictor else {
            return Err(Problem::unsupported(
                "a graph without trees and without a linear model",
                "neural networks are not read yet",
            ));
        };
        let mut scores = None;
        for output in &graph.outputs {
            match self.known.get(output.name) {
                Some(Known::Scores) => scores = Some(output.name),
                Some(Known::Labels) => {}
                Some(Known::Columns(_) | Known::Constant(_)) | None => {
                    let name = Seen::new(output.name);
                    return Err(Problem::unsupported(
                        format!("output {name}, which the model does not compute"),
                        "export the model's own outputs only",
                    ));
                }
            }
        }
        let Preparation { inputs, steps, .. } = self.preparation;
        let output = match labels {
            Some(labels) => Output::Classes(labels),
            None => Output::Values(values(scores.unwrap_or("prediction"), model.scores())),
        };
        let handles_missing = self.handles_missing;
        Ok(ImportedModel { format: Format::Onnx, inputs, steps, model, link, output, handles_missing })
    }
}

/// A name for each value.
fn values(name: &str, count: usize) -> Vec<String> {
    match count {
        1 => vec![name.to_owned()],
        _ => (0..count).map(|index| format!("{name}.{index}")).collect(),
    }
}

fn is_last_axis(node: &Node<'_>) -> bool {
    matches!(node.int("axis"), Some(1 | -1))
}

fn unsupported(node: &Node<'_>) -> Problem {
    let operator = Seen::new(node.operator);
    let domain = if node.domain.is_empty() { "ai.onnx" } else { node.domain };
    Problem::unsupported(
        format!("operator {operator} of {}", Seen::new(domain)),
        "export a model of trees or a linear model with scaling, imputing and encoding in front only",
    )
}
