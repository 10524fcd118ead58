//! Operators that `rten` lacks or computes wrongly for some numbers, written as others that it has.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::file::File;
use crate::node::{Node, Parameter};
use crate::tensor::{Tensor, kind};

/// The beginning of the names of new values.
const PREFIX: &str = "canopy.rewritten.";

/// The first version of ONNX whose softmax is along one axis.
const OPSET_OF_SOFTMAX: i64 = 13;

/// Replaces operators of [`New::replace`] and [`New::correct`]. Other nodes stay. A file that was rewritten stays the same.
pub(crate) fn rewrite(file: &mut File<'_>) {
    let nodes = std::mem::take(&mut file.nodes);
    let dimensions = file.constants.iter().map(|tensor| (tensor.name.clone(), tensor.shape.len())).collect();
    let mut new = New {
        opset: file.opset,
        dimensions,
        count: 0,
        nodes: Vec::with_capacity(nodes.len()),
        constants: Vec::new(),
    };
    for node in nodes {
        new.replace(node);
    }
    file.nodes = new.nodes;
    file.constants.append(&mut new.constants);
}

struct New<'a> {
    opset: i64,
    /// How many dimensions each constant has, by name.
    dimensions: HashMap<Cow<'a, str>, usize>,
    count: usize,
    nodes: Vec<Node<'a>>,
    constants: Vec<Tensor<'a>>,
}

impl<'a> New<'a> {
    /// Replaces operators that the runtime lacks, and those that it computes wrongly for large numbers or numbers below 1.
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
            ("", _) => self.correct(node, input, output),
            _ => self.nodes.push(node),
        }
    }

    /// Replaces operators for which the runtime differs from the standard.
    fn correct(&mut self, node: Node<'a>, input: Cow<'a, str>, output: Cow<'a, str>) {
        match node.operator {
            // The runtime's sign of 0 is 1, and that of -0 is -1.
            "Sign" if !output.starts_with(PREFIX) => {
                let zero = self.number(0.0);
                let zero = self.then(Node::new("CastLike", vec![zero, input.clone()], "".into()));
                let is_zero = self.then(Node::new("Equal", vec![input.clone(), zero.clone()], "".into()));
                let sign = self.then(Node::new("Sign", vec![input], "".into()));
                self.nodes.push(Node::new("Where", vec![is_zero, zero, sign], output));
            }
            // All dimensions from the axis on are one, and the default of the axis was 1.
            "Softmax" | "LogSoftmax" if self.opset < OPSET_OF_SOFTMAX && node.int("axis") != Some(-1) => {
                let axis = Parameter::Int(node.int("axis").unwrap_or(1));
                let shape = self.then(Node::new("Shape", vec![input.clone()], "".into()));
                let matrix = self.then(Node::new("Flatten", vec![input], "".into()).with("axis", axis));
                let last = Node::new(node.operator, vec![matrix], "".into()).with("axis", Parameter::Int(-1));
                let scores = self.then(last);
                self.nodes.push(Node::new("Reshape", vec![scores, shape], output));
            }
            // Of equal numbers the runtime takes the last. TopK takes the first, as the standard.
            "ArgMax" | "ArgMin" if node.int("select_last_index").unwrap_or(0) == 0 => {
                let axis = node.int("axis").unwrap_or(0);
                let one = self.name();
                self.constants.push(Tensor::ints(one.to_string(), vec![1], &[1]));
                let keeps = node.int("keepdims").unwrap_or(1) != 0;
                let index = if keeps { output.clone() } else { self.name() };
                let mut top = Node::new("TopK", vec![input, one], self.name())
                    .with("axis", Parameter::Int(axis))
                    .with("largest", Parameter::Int(i64::from(node.operator == "ArgMax")));
                top.outputs.push(index.clone());
                self.nodes.push(top);
                if !keeps {
                    let squeeze = Node::new("Squeeze", vec![index], output);
                    self.nodes.push(squeeze.with("axes", Parameter::Ints(vec![axis])));
                }
            }
            "Conv" | "ConvTranspose" | "AveragePool" | "MaxPool" => {
                let node = self.with_windows(node);
                self.nodes.push(node);
            }
            _ => self.nodes.push(node),
        }
    }

    /// A convolution or pooling with the strides, pads and dilations that are its defaults.
    fn with_windows(&self, mut node: Node<'a>) -> Node<'a> {
        let of_weights = || self.dimensions.get(node.input(1))?.checked_sub(2);
        let dimensions = match node.attribute("kernel_shape") {
            Some(Parameter::Ints(kernel)) => Some(kernel.len()),
            _ => of_weights(),
        };
        let Some(dimensions) = dimensions else { return node };
        let mut defaults = vec![("strides", vec![1; dimensions]), ("pads", vec![0; 2 * dimensions])];
        if node.operator.starts_with("Conv") {
            defaults.push(("dilations", vec![1; dimensions]));
        }
        for (name, values) in defaults {
            if node.attribute(name).is_none() {
                node = node.with(name, Parameter::Ints(values));
            }
        }
        node
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
