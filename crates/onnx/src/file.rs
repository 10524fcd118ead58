//! The file: the version of the operators, and the graph's nodes, constants, inputs and outputs.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::{GraphError, Limits, shown};
use crate::node::{Node, Parameter};
use crate::tensor::{Declared, Tensor};
use crate::wire::{Fields, Writer};

/// The version of the format that is written.
const IR_VERSION: i64 = 8;
/// The oldest operators that are read: before, several had other meanings.
const OPSET_MIN: i64 = 9;

/// A graph with the version of its operators.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct File<'a> {
    /// The version of the operators of ONNX itself.
    pub(crate) opset: i64,
    /// The version of the operators of `ai.onnx.ml`; 0 where it has none.
    pub(crate) opset_ml: i64,
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) constants: Vec<Tensor<'a>>,
    pub(crate) inputs: Vec<Declared<'a>>,
    pub(crate) outputs: Vec<Declared<'a>>,
}

impl<'a> File<'a> {
    /// Reads the bytes of a file.
    pub(crate) fn read(bytes: &'a [u8], limits: &Limits) -> Result<Self, GraphError> {
        GraphError::limit("bytes of the file", bytes.len(), limits.bytes)?;
        let mut budget = Budget::new(limits);
        let mut file = Self::default();
        let mut graphs = 0;
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                7 => {
                    graphs += 1;
                    file.read_graph(value.bytes()?, &mut budget)?;
                }
                8 => file.read_opset(value.bytes()?, &mut budget)?,
                25 => {
                    return Err(GraphError::unsupported(
                        "a function of the model's own",
                        "export it without functions (onnx.inliner.inline_local_functions)",
                    ));
                }
                _ => {}
            }
        }
        match graphs {
            1 if file.opset >= OPSET_MIN => Ok(file),
            1 => Err(GraphError::unsupported(
                format!("opset {}", file.opset),
                "export it with opset 9 or later (17 is a good choice)",
            )),
            _ => Err(GraphError::malformed(format!("there must be one graph, got {graphs}"))),
        }
    }

    fn read_opset(&mut self, bytes: &'a [u8], budget: &mut Budget) -> Result<(), GraphError> {
        budget.message()?;
        let (mut domain, mut version) = ("", 0);
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => domain = value.text()?,
                2 => version = value.int()?,
                _ => {}
            }
        }
        match domain {
            "" | "ai.onnx" => self.opset = version,
            "ai.onnx.ml" => self.opset_ml = version,
            _ => {}
        }
        Ok(())
    }

    fn read_graph(&mut self, bytes: &'a [u8], budget: &mut Budget) -> Result<(), GraphError> {
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => {
                    let node = Node::read(value.bytes()?, budget)?;
                    match constant(&node)? {
                        Some(tensor) => self.constants.push(tensor),
                        None => self.nodes.push(node),
                    }
                }
                5 => self.constants.push(Tensor::read(value.bytes()?, budget)?),
                11 => self.inputs.push(Declared::read(value.bytes()?, budget)?),
                12 => self.outputs.push(Declared::read(value.bytes()?, budget)?),
                15 => {
                    return Err(GraphError::unsupported("a sparse tensor", "export it with dense tensors"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of a file of these parts.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut graph = Writer::default();
        self.nodes.iter().for_each(|node| graph.message(1, &node.write()));
        graph.bytes(2, b"graph");
        self.constants.iter().for_each(|tensor| graph.message(5, &tensor.write()));
        self.inputs.iter().for_each(|input| graph.message(11, &input.write()));
        self.outputs.iter().for_each(|output| graph.message(12, &output.write()));
        let mut opset = Writer::default();
        opset.bytes(1, b"");
        opset.int(2, self.opset);
        let mut model = Writer::default();
        model.int(1, IR_VERSION);
        model.message(8, &opset);
        model.message(7, &graph);
        model.into_bytes()
    }
}

/// The tensor that a `Constant` node stands for.
fn constant<'a>(node: &Node<'a>) -> Result<Option<Tensor<'a>>, GraphError> {
    if !node.is("Constant") {
        return Ok(None);
    }
    let name = node.outputs.first().map(ToString::to_string).unwrap_or_default();
    let value = node.attributes.iter().find(|attribute| attribute.name.starts_with("value"));
    let tensor = match value.map(|attribute| &attribute.value) {
        Some(Parameter::Tensor(tensor)) => Tensor { name: Cow::Owned(name), ..tensor.clone() },
        Some(Parameter::Float(value)) => Tensor::floats(name, Vec::new(), &[*value]),
        Some(Parameter::Floats(values)) => Tensor::floats(name, vec![values.len()], values),
        Some(Parameter::Int(value)) => Tensor::ints(name, Vec::new(), &[*value]),
        Some(Parameter::Ints(values)) => Tensor::ints(name, vec![values.len()], values),
        Some(Parameter::Text(text)) => Tensor { name: Cow::Owned(name), ..Tensor::of_texts(vec![text]) },
        Some(Parameter::Texts(texts)) => Tensor { name: Cow::Owned(name), ..Tensor::of_texts(texts.clone()) },
        Some(Parameter::Other) | None => {
            return Err(GraphError::malformed(format!("constant {:?} has no value", shown(&name))));
        }
    };
    Ok(Some(tensor))
}
