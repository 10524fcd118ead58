//! Operators that `rten` lacks or computes wrongly for some numbers, written as others that it has.

use std::borrow::Cow;

use crate::file::File;
use crate::node::{Node, Parameter};
use crate::tensor::{Tensor, kind};

/// The beginning of the names of new values.
const PREFIX: &str = "canopy.rewritten.";

/// Replaces `Dropout`, `Selu`, `Celu`, `Mish`, `Softplus` and `Cast` to bool, for which the runtime truncates numbers, and of `ai.onnx.ml` `Scaler`, `Imputer` of NaN and
/// `ArrayFeatureExtractor`. Other nodes stay.
pub(crate) fn rewrite(file: &mut File<'_>) {
    let nodes = std::mem::take(&mut file.nodes);
    let mut new = New { count: 0, nodes: Vec::with_capacity(nodes.len()), constants: Vec::new() };
    for node in nodes {
        new.replace(node);
    }
    file.nodes = new.nodes;
    file.constants.append(&mut new.constants);
}

struct New<'a> {
    count: usize,
    nodes: Vec<Node<'a>>,
    constants: Vec<Tensor<'a>>,
}

impl<'a> New<'a> {
    fn replace(&mut self, node: Node<'a>) {
        let [Some(input), Some(output)] = [node.inputs.first().cloned(), node.outputs.first().cloned()]
        else {
            self.nodes.push(node);
            return;
        };
        match (node.domain, node.operator) {
            ("", "Dropout") => self.nodes.push(Node::new("Identity", vec![input], output)),
            ("", "Selu") => {
                let alpha = node.float("alpha", 1.673_263_2);
                let gamma = self.number(node.float("gamma", 1.050_701));
                let scaled = self
                    .then(Node::new("Elu", vec![input], "".into()).with("alpha", Parameter::Float(alpha)));
                self.nodes.push(Node::new("Mul", vec![scaled, gamma], output));
            }
            ("", "Celu") => {
                let alpha = self.number(node.float("alpha", 1.0));
                let scaled = self.then(Node::new("Div", vec![input, alpha.clone()], "".into()));
                let elu = self.then(Node::new("Elu", vec![scaled], "".into()));
                self.nodes.push(Node::new("Mul", vec![elu, alpha], output));
            }
            ("", "Mish") => {
                // The hyperbolic tangent of 20 and more is 1.
                let softplus = self.bounded_softplus(input.clone());
                let tanh = self.then(Node::new("Tanh", vec![softplus], "".into()));
                self.nodes.push(Node::new("Mul", vec![input, tanh], output));
            }
            // A file that was written after a replacement is read again.
            ("", "Softplus") if !input.starts_with(PREFIX) => {
                let bounded = self.bounded_softplus(input.clone());
                self.nodes.push(Node::new("Max", vec![input, bounded], output));
            }
            ("", "Cast") if node.int("to") == Some(kind::BOOL) => {
                let zero = self.number(0.0);
                let number =
                    Node::new("Cast", vec![input], "".into()).with("to", Parameter::Int(kind::FLOAT));
                let number = self.then(number);
                let is_zero = self.then(Node::new("Equal", vec![number, zero], "".into()));
                self.nodes.push(Node::new("Not", vec![is_zero], output));
            }
            ("ai.onnx.ml", "Scaler") => {
                let [offset, scale] = [self.list(node.floats("offset")), self.list(node.floats("scale"))];
                let moved = self.then(Node::new("Sub", vec![input, offset], "".into()));
                self.nodes.push(Node::new("Mul", vec![moved, scale], output));
            }
            ("ai.onnx.ml", "Imputer") if node.float("replaced_value_float", 0.0).is_nan() => {
                let missing = self.then(Node::new("IsNaN", vec![input.clone()], "".into()));
                let values = self.list(node.floats("imputed_value_floats"));
                self.nodes.push(Node::new("Where", vec![missing, values, input], output));
            }
            ("ai.onnx.ml", "ArrayFeatureExtractor") if node.inputs.len() == 2 => {
                let gather = Node::new("Gather", node.inputs, output);
                self.nodes.push(gather.with("axis", Parameter::Int(-1)));
            }
            _ => self.nodes.push(node),
        }
    }

    /// The softplus of at most 20. The runtime computes it as ln(1 + exp(x)), which is infinite for 89 and more. In 32 bits
    /// the softplus of x is x above 20, and is never less than x.
    fn bounded_softplus(&mut self, input: Cow<'a, str>) -> Cow<'a, str> {
        let limit = self.number(20.0);
        let bounded = self.then(Node::new("Min", vec![input, limit], "".into()));
        self.then(Node::new("Softplus", vec![bounded], "".into()))
    }

    /// Adds a node, and gives its output a new name.
    fn then(&mut self, mut node: Node<'a>) -> Cow<'a, str> {
        let name = self.name();
        node.outputs = vec![name.clone()];
        self.nodes.push(node);
        name
    }

    fn number(&mut self, value: f32) -> Cow<'a, str> {
        let name = self.name();
        self.constants.push(Tensor::floats(name.to_string(), Vec::new(), &[value]));
        name
    }

    fn list(&mut self, values: &[f32]) -> Cow<'a, str> {
        let name = self.name();
        self.constants.push(Tensor::floats(name.to_string(), vec![values.len()], values));
        name
    }

    fn name(&mut self) -> Cow<'a, str> {
        self.count += 1;
        Cow::Owned(format!("{PREFIX}{}", self.count))
    }
}
