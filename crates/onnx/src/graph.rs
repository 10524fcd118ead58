//! A checked graph: its file as it is run, its inputs and its outputs.

use std::collections::BTreeMap;

use crate::error::{GraphError, Limits};
use crate::file::File;
use crate::fold::fold;
use crate::integers;
use crate::labels::heads;
use crate::links::{Links, Source, prune};
use crate::operators;
use crate::port::{Port, ports};
use crate::rewrite::rewrite;
use crate::sizes;
use crate::tensor::{Declared, Tensor, kind};
use crate::wire::Fields;

/// Models of `ai.onnx.ml`, which `rten` does not run.
const MODELS: [&str; 7] = [
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "LinearClassifier",
    "LinearRegressor",
    "SVMClassifier",
    "SVMRegressor",
];

/// Whether a file has a graph without a model of `ai.onnx.ml`: a neural network, or nothing that can be read here.
pub fn is_network(bytes: &[u8], limits: &Limits) -> Result<bool, GraphError> {
    GraphError::limit("bytes of the file", bytes.len(), limits.bytes)?;
    // A model of trees has most of its bytes in the attributes of one node, which are not needed to recognise it.
    if has_model(bytes).unwrap_or(false) {
        return Ok(false);
    }
    File::read(bytes, limits)?;
    Ok(true)
}

/// Whether a node has one of [`MODELS`] as its operator. Only operators and domains are read.
fn has_model(bytes: &[u8]) -> Result<bool, GraphError> {
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.read()? {
        if number != 7 {
            continue;
        }
        let mut graph = Fields::new(value.bytes()?);
        while let Some((number, value)) = graph.read()? {
            if number == 1 && is_model(value.bytes()?)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_model(node: &[u8]) -> Result<bool, GraphError> {
    let (mut operator, mut domain) = ("", "");
    let mut fields = Fields::new(node);
    while let Some((number, value)) = fields.read()? {
        match number {
            4 => operator = value.text()?,
            7 => domain = value.text()?,
            _ => {}
        }
    }
    Ok(domain == "ai.onnx.ml" && MODELS.contains(&operator))
}

/// A graph that consists of known operators, without cycles, and whose tensors are as large as their bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    bytes: Vec<u8>,
    inputs: Vec<Port>,
    outputs: Vec<String>,
    labels: Option<Vec<String>>,
    is_classifier: bool,
    end: End,
    operators: BTreeMap<String, usize>,
    numbers: usize,
}

/// What computes the scores in the end, where there is one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A logistic function.
    Sigmoid,
    /// A softmax.
    Softmax,
    /// Something else, or there are several outputs.
    Other,
}

impl Graph {
    /// Reads and checks the bytes of a file. It takes time and memory in proportion to the bytes.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, GraphError> {
        let mut file = File::read(bytes, limits)?;
        let heads = heads(&file)?;
        let wanted: Vec<_> = heads.scores.iter().map(|(value, _)| value.clone()).collect();
        rewrite(&mut file);
        let mut file = prune(file, &wanted, limits)?;
        operators::check(&file)?;
        for tensor in &file.constants {
            tensor.check()?;
        }
        sizes::check_windows(&file)?;
        integers::check(&file)?;
        file.outputs =
            wanted.iter().map(|name| Declared { name, kind: kind::FLOAT, shape: Vec::new() }).collect();
        let links = Links::new(&file)?;
        let end = end(&file, &links);
        fold(&mut file, &links);
        let file = prune(file, &wanted, limits)?;
        let inputs = ports(&file, limits)?;
        let mut operators = BTreeMap::new();
        for node in &file.nodes {
            *operators.entry(node.operator.to_owned()).or_default() += 1;
        }
        Ok(Self {
            bytes: file.write(),
            inputs,
            outputs: heads.scores.into_iter().map(|(_, name)| name).collect(),
            labels: heads.labels,
            is_classifier: heads.is_classifier,
            end,
            operators,
            numbers: file.constants.iter().filter_map(Tensor::elements).sum(),
        })
    }

    /// The file that is run. It can be read again, but has no labels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The inputs, in the order of a row.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, by name.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Whether the file has an output of labels, which are the largest of the only output of scores.
    pub fn is_classifier(&self) -> bool {
        self.is_classifier
    }

    /// The labels of the classes, where the file has them.
    pub fn labels(&self) -> Option<&[String]> {
        self.labels.as_deref()
    }

    /// What computes the scores in the end.
    pub fn end(&self) -> End {
        self.end
    }

    /// The operators that are run, and how often each occurs in the graph.
    pub fn operators(&self) -> &BTreeMap<String, usize> {
        &self.operators
    }

    /// How many numbers the constants have: weights and biases.
    pub fn numbers(&self) -> usize {
        self.numbers
    }
}

fn end(file: &File<'_>, links: &Links) -> End {
    let [output] = &file.outputs[..] else { return End::Other };
    let mut value = output.name;
    for _ in 0..=file.nodes.len() {
        let Some(Source::Node(index)) = links.source(value) else { return End::Other };
        let node = &file.nodes[index];
        match node.operator {
            "Sigmoid" => return End::Sigmoid,
            "Softmax" => return End::Softmax,
            "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Cast" => value = node.input(0),
            _ => return End::Other,
        }
    }
    End::Other
}
