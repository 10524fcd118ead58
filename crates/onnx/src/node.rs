//! Operators of a graph, with their attributes.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::{GraphError, shown};
use crate::tensor::Tensor;
use crate::wire::{Fields, Value, Writer};

/// An operator with its inputs and outputs, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node<'a> {
    pub(crate) operator: &'a str,
    /// Empty for the operators of ONNX itself.
    pub(crate) domain: &'a str,
    pub(crate) inputs: Vec<Cow<'a, str>>,
    pub(crate) outputs: Vec<Cow<'a, str>>,
    pub(crate) attributes: Vec<Attribute<'a>>,
}

/// An attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attribute<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Parameter<'a>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parameter<'a> {
    Float(f32),
    Int(i64),
    Text(&'a [u8]),
    Tensor(Tensor<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<&'a [u8]>),
    /// A graph, a type, or a reference to an attribute of a function.
    Other,
}

impl<'a> Node<'a> {
    /// A node of ONNX itself.
    pub(crate) fn new(operator: &'a str, inputs: Vec<Cow<'a, str>>, output: Cow<'a, str>) -> Self {
        Self { operator, inputs, outputs: vec![output], ..Self::default() }
    }

    /// With an attribute.
    #[must_use]
    pub(crate) fn with(mut self, name: &'a str, value: Parameter<'a>) -> Self {
        self.attributes.push(Attribute { name, value });
        self
    }

    /// Reads the message.
    pub(crate) fn read(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, GraphError> {
        budget.message()?;
        let mut node = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => {
                    budget.message()?;
                    node.inputs.push(Cow::Borrowed(value.text()?));
                }
                2 => {
                    budget.message()?;
                    node.outputs.push(Cow::Borrowed(value.text()?));
                }
                4 => node.operator = value.text()?,
                5 => node.attributes.push(Attribute::read(value.bytes()?, budget)?),
                7 => node.domain = value.text()?,
                _ => {}
            }
        }
        if node.domain == "ai.onnx" {
            node.domain = "";
        }
        Ok(node)
    }

    /// Whether it is this operator of ONNX itself.
    pub(crate) fn is(&self, operator: &str) -> bool {
        self.domain.is_empty() && self.operator == operator
    }

    /// Whether it is this operator of `ai.onnx.ml`.
    pub(crate) fn is_ml(&self, operator: &str) -> bool {
        self.domain == "ai.onnx.ml" && self.operator == operator
    }

    /// The name of the input at `index`; empty where it is absent.
    pub(crate) fn input(&self, index: usize) -> &str {
        self.inputs.get(index).map_or("", |name| name)
    }

    /// The value of the attribute of this name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&Parameter<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.value)
    }

    /// The integer of the attribute of this name.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name) {
            Some(Parameter::Int(int)) => Some(*int),
            _ => None,
        }
    }

    /// The float of the attribute of this name, or its default.
    pub(crate) fn float(&self, name: &str, default: f32) -> f32 {
        match self.attribute(name) {
            Some(Parameter::Float(float)) => *float,
            _ => default,
        }
    }

    /// The floats of the attribute of this name; none where it is absent.
    pub(crate) fn floats(&self, name: &str) -> &[f32] {
        match self.attribute(name) {
            Some(Parameter::Floats(floats)) => floats,
            _ => &[],
        }
    }

    /// Where the node is, for people.
    pub(crate) fn place(&self) -> String {
        let output = self.outputs.first().map_or("", |name| name);
        format!("{} of {:?}", shown(self.operator), shown(output))
    }

    /// The message.
    pub(crate) fn write(&self) -> Writer {
        let mut message = Writer::default();
        for name in &self.inputs {
            message.bytes(1, name.as_bytes());
        }
        for name in &self.outputs {
            message.bytes(2, name.as_bytes());
        }
        // The runtime's messages name the node.
        let output = self.outputs.first().map_or("", |name| name);
        message.bytes(3, format!("{} of {}", shown(self.operator), shown(output)).as_bytes());
        message.bytes(4, self.operator.as_bytes());
        for attribute in &self.attributes {
            message.message(5, &attribute.write());
        }
        message
    }
}

impl<'a> Attribute<'a> {
    fn read(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, GraphError> {
        budget.message()?;
        let mut attribute = Self { name: "", value: Parameter::Other };
        let mut kind = 0;
        let (mut floats, mut ints, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => attribute.name = value.text()?,
                2 => attribute.value = Parameter::Float(value.float()?),
                3 => attribute.value = Parameter::Int(value.int()?),
                4 => attribute.value = Parameter::Text(value.bytes()?),
                5 => attribute.value = Parameter::Tensor(Tensor::read(value.bytes()?, budget)?),
                7 => push_floats(value, &mut floats, budget)?,
                8 => value.ints(|int| {
                    budget.numbers(1)?;
                    ints.push(int);
                    Ok(())
                })?,
                9 => {
                    budget.numbers(1)?;
                    texts.push(value.bytes()?);
                }
                20 => kind = value.int()?,
                6 | 10 | 11 | 14 | 15 | 21 | 22 | 23 => attribute.value = Parameter::Other,
                _ => {}
            }
        }
        // A field that holds its default may be absent, so the type decides where there is one.
        attribute.value = match (kind, attribute.value) {
            (6, _) => Parameter::Floats(floats),
            (7, _) => Parameter::Ints(ints),
            (8, _) => Parameter::Texts(texts),
            (1, Parameter::Other) => Parameter::Float(0.0),
            (2, Parameter::Other) => Parameter::Int(0),
            (3, Parameter::Other) => Parameter::Text(&[]),
            (0, Parameter::Other) if !floats.is_empty() => Parameter::Floats(floats),
            (0, Parameter::Other) if !ints.is_empty() => Parameter::Ints(ints),
            (0, Parameter::Other) if !texts.is_empty() => Parameter::Texts(texts),
            (_, value) => value,
        };
        Ok(attribute)
    }

    fn write(&self) -> Writer {
        let mut message = Writer::default();
        message.bytes(1, self.name.as_bytes());
        let kind = match &self.value {
            Parameter::Float(value) => {
                message.float(2, *value);
                1
            }
            Parameter::Int(value) => {
                message.int(3, *value);
                2
            }
            Parameter::Text(value) => {
                message.bytes(4, value);
                3
            }
            Parameter::Tensor(value) => {
                message.message(5, &value.write());
                4
            }
            Parameter::Floats(values) => {
                for value in values {
                    message.float(7, *value);
                }
                6
            }
            Parameter::Ints(values) => {
                for value in values {
                    message.int(8, *value);
                }
                7
            }
            Parameter::Texts(values) => {
                for value in values {
                    message.bytes(9, value);
                }
                8
            }
            Parameter::Other => 0,
        };
        message.int(20, kind);
        message
    }
}

fn push_floats(value: Value<'_>, to: &mut Vec<f32>, budget: &mut Budget) -> Result<(), GraphError> {
    let bytes = value.four_bytes()?;
    budget.numbers(bytes.len() / 4)?;
    to.extend(bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)));
    Ok(())
}
