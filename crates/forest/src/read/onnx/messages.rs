//! The messages of an ONNX file, as far as a model of ai.onnx.ml needs them. Texts and raw numbers stay in the file's bytes.

use crate::read::error::{Limits, Problem};
use crate::read::protobuf::{Budget, Fields, Value, chunks};

/// The most nodes, attributes, tensors, inputs and outputs of a graph in all.
const MESSAGES_MAX: usize = 100_000;

/// The graph of a model.
#[derive(Debug, Default)]
pub(crate) struct Graph<'a> {
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) constants: Vec<Tensor<'a>>,
    pub(crate) inputs: Vec<Port<'a>>,
    pub(crate) outputs: Vec<Port<'a>>,
}

/// An operator with its inputs and outputs, by name.
#[derive(Debug, Default)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) operator: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
    pub(crate) attributes: Vec<Attribute<'a>>,
}

/// An attribute of a node. Only the member of its type has a value.
#[derive(Debug, Default)]
pub(crate) struct Attribute<'a> {
    pub(crate) name: &'a str,
    pub(crate) float: Option<f32>,
    pub(crate) int: Option<i64>,
    pub(crate) text: Option<&'a [u8]>,
    pub(crate) tensor: Option<Tensor<'a>>,
    pub(crate) floats: Vec<f32>,
    pub(crate) ints: Vec<i64>,
    pub(crate) texts: Vec<&'a [u8]>,
}

/// A constant. Its numbers are in one of the lists, or raw.
#[derive(Debug, Default)]
pub(crate) struct Tensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: i64,
    shape: Vec<i64>,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    ints: Vec<i64>,
    pub(crate) texts: Vec<&'a [u8]>,
    raw: Option<&'a [u8]>,
    is_external: bool,
}

/// An input or output of a graph.
#[derive(Debug, Default)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    /// The type of the elements, where it is a tensor.
    pub(crate) kind: i64,
    /// Each dimension, where it is known.
    pub(crate) shape: Vec<Option<i64>>,
}

/// The types of elements that models have.
pub(crate) mod kind {
    pub(crate) const FLOAT: i64 = 1;
    pub(crate) const UINT8: i64 = 2;
    pub(crate) const INT32: i64 = 6;
    pub(crate) const INT64: i64 = 7;
    pub(crate) const TEXT: i64 = 8;
    pub(crate) const BOOL: i64 = 9;
    pub(crate) const DOUBLE: i64 = 11;
}

struct Budgets {
    messages: Budget,
    numbers: Budget,
}

/// The graph in the bytes of a file.
pub(crate) fn graph<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Graph<'a>, Problem> {
    let mut budgets = Budgets {
        messages: Budget::new("nodes, attributes and tensors", MESSAGES_MAX),
        numbers: Budget::new("numbers and texts", limits.numbers),
    };
    let mut found = None;
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.read()? {
        match number {
            7 if found.is_some() => return Err(Problem::malformed("there are two graphs")),
            7 => found = Some(Graph::read(value.bytes()?, &mut budgets)?),
            25 => {
                return Err(Problem::unsupported(
                    "a function of the model's own",
                    "export it without functions",
                ));
            }
            _ => {}
        }
    }
    found.ok_or_else(|| Problem::malformed("there is no graph"))
}

impl<'a> Graph<'a> {
    fn read(bytes: &'a [u8], budgets: &mut Budgets) -> Result<Self, Problem> {
        let mut graph = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => graph.nodes.push(Node::read(value.bytes()?, budgets)?),
                5 => graph.constants.push(Tensor::read(value.bytes()?, budgets)?),
                11 => graph.inputs.push(Port::read(value.bytes()?, budgets)?),
                12 => graph.outputs.push(Port::read(value.bytes()?, budgets)?),
                15 => return Err(Problem::unsupported("a sparse tensor", "export it with dense tensors")),
                _ => {}
            }
        }
        Ok(graph)
    }
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8], budgets: &mut Budgets) -> Result<Self, Problem> {
        budgets.messages.spend(1)?;
        let mut node = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => push_text(&mut node.inputs, value, budgets)?,
                2 => push_text(&mut node.outputs, value, budgets)?,
                3 => node.name = value.text()?,
                4 => node.operator = value.text()?,
                5 => node.attributes.push(Attribute::read(value.bytes()?, budgets)?),
                7 => node.domain = value.text()?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// The attribute of this name.
    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The integers of the attribute of this name; none where it is absent.
    pub(crate) fn ints(&self, name: &str) -> &[i64] {
        self.attribute(name).map_or(&[], |attribute| &attribute.ints)
    }

    /// The integer of the attribute of this name.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).and_then(|attribute| attribute.int)
    }

    /// The texts of the attribute of this name; none where it is absent.
    pub(crate) fn texts(&self, name: &str) -> &[&'a [u8]] {
        self.attribute(name).map_or(&[], |attribute| &attribute.texts)
    }

    /// The text of the attribute of this name.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        self.attribute(name).and_then(|attribute| attribute.text).map(utf8).transpose()
    }

    /// The numbers of the attribute of this name, or of that with the ending `_as_tensor`; none where both are absent.
    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f64>, Problem> {
        let tensor = self.attributes.iter().find(|attribute| {
            attribute.name.strip_suffix("_as_tensor").unwrap_or(attribute.name) == name
                && attribute.tensor.is_some()
        });
        match (tensor.and_then(|attribute| attribute.tensor.as_ref()), self.attribute(name)) {
            (Some(tensor), _) => tensor.numbers(),
            (None, Some(attribute)) => Ok(attribute.floats.iter().copied().map(f64::from).collect()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

impl<'a> Attribute<'a> {
    fn read(bytes: &'a [u8], budgets: &mut Budgets) -> Result<Self, Problem> {
        budgets.messages.spend(1)?;
        let mut attribute = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => attribute.name = value.text()?,
                2 => attribute.float = Some(value.float()?),
                3 => attribute.int = Some(value.int()?),
                4 => attribute.text = Some(value.bytes()?),
                5 => attribute.tensor = Some(Tensor::read(value.bytes()?, budgets)?),
                7 => value.floats(&mut attribute.floats, &mut budgets.numbers)?,
                8 => value.ints(&mut attribute.ints, &mut budgets.numbers)?,
                9 => push_bytes(&mut attribute.texts, value, budgets)?,
                _ => {}
            }
        }
        Ok(attribute)
    }
}

impl<'a> Tensor<'a> {
    fn read(bytes: &'a [u8], budgets: &mut Budgets) -> Result<Self, Problem> {
        budgets.messages.spend(1)?;
        let mut tensor = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => value.ints(&mut tensor.shape, &mut budgets.numbers)?,
                2 => tensor.kind = value.int()?,
                4 => value.floats(&mut tensor.floats, &mut budgets.numbers)?,
                5 | 7 | 11 => value.ints(&mut tensor.ints, &mut budgets.numbers)?,
                6 => push_bytes(&mut tensor.texts, value, budgets)?,
                8 => tensor.name = value.text()?,
                9 => {
                    let raw = value.bytes()?;
                    budgets.numbers.spend(raw.len() / 4)?;
                    tensor.raw = Some(raw);
                }
                10 => value.doubles(&mut tensor.doubles, &mut budgets.numbers)?,
                13 => tensor.is_external = true,
                14 => tensor.is_external |= value.int()? != 0,
                _ => {}
            }
        }
        Ok(tensor)
    }

    /// Its numbers, as many as its shape has elements.
    pub(crate) fn numbers(&self) -> Result<Vec<f64>, Problem> {
        if self.is_external {
            return Err(Problem::unsupported("a tensor in another file", "save the model as one file"));
        }
        let numbers = match (self.kind, self.raw) {
            (kind::FLOAT, Some(raw)) => widen(chunks(raw)?, f32::from_le_bytes),
            (kind::FLOAT, None) => self.floats.iter().copied().map(f64::from).collect(),
            (kind::DOUBLE, Some(raw)) => widen(chunks(raw)?, f64::from_le_bytes),
            (kind::DOUBLE, None) => self.doubles.clone(),
            (kind::INT64, Some(raw)) => {
                chunks(raw)?.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect()
            }
            (kind::INT32, Some(raw)) => widen(chunks(raw)?, i32::from_le_bytes),
            (kind::UINT8 | kind::BOOL, Some(raw)) => raw.iter().copied().map(f64::from).collect(),
            (kind::INT64 | kind::INT32 | kind::UINT8 | kind::BOOL, None) => {
                self.ints.iter().map(|value| *value as f64).collect()
            }
            (kind, _) => {
                return Err(Problem::unsupported(
                    format!("a tensor of element type {kind}"),
                    "use float, double, int32, int64 or bool",
                ));
            }
        };
        self.check_shape(numbers.len())?;
        Ok(numbers)
    }

    /// Whether the shape has this many elements. The product of its dimensions is not trusted to fit a number.
    fn check_shape(&self, count: usize) -> Result<(), Problem> {
        let elements = self
            .shape
            .iter()
            .try_fold(1_usize, |product, dimension| product.checked_mul(usize::try_from(*dimension).ok()?));
        if elements != Some(count) {
            let shape: Vec<_> = self.shape.iter().take(8).collect();
            return Err(Problem::malformed(format!("a tensor of shape {shape:?} has {count} elements")));
        }
        Ok(())
    }
}

fn widen<const N: usize, T: Into<f64>>(chunks: &[[u8; N]], number: impl Fn([u8; N]) -> T) -> Vec<f64> {
    chunks.iter().map(|bytes| number(*bytes).into()).collect()
}

impl<'a> Port<'a> {
    fn read(bytes: &'a [u8], budgets: &mut Budgets) -> Result<Self, Problem> {
        budgets.messages.spend(1)?;
        let mut port = Self::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => port.name = value.text()?,
                2 => port.read_type(value.bytes()?, budgets)?,
                _ => {}
            }
        }
        Ok(port)
    }

    /// Reads a type. All but tensors leaves the kind 0, which no tensor has.
    fn read_type(&mut self, bytes: &'a [u8], budgets: &mut Budgets) -> Result<(), Problem> {
        for tensor in inner(bytes, 1)? {
            let mut fields = Fields::new(tensor);
            while let Some((number, value)) = fields.read()? {
                match number {
                    1 => self.kind = value.int()?,
                    2 => {
                        let dimensions = inner(value.bytes()?, 1)?;
                        budgets.numbers.spend(dimensions.len())?;
                        for dimension in dimensions {
                            let value = Fields::new(dimension).read()?;
                            let size = value.filter(|(number, _)| *number == 1).map(|(_, value)| value.int());
                            self.shape.push(size.transpose()?);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The messages in all fields of this number.
fn inner(bytes: &[u8], wanted: u64) -> Result<Vec<&[u8]>, Problem> {
    let mut found = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.read()? {
        if number == wanted {
            if found.len() == MESSAGES_MAX {
                return Err(Problem::Limit { what: "dimensions", found: found.len() + 1, max: MESSAGES_MAX });
            }
            found.push(value.bytes()?);
        }
    }
    Ok(found)
}

fn push_text<'a>(to: &mut Vec<&'a str>, value: Value<'a>, budgets: &mut Budgets) -> Result<(), Problem> {
    budgets.messages.spend(1)?;
    to.push(value.text()?);
    Ok(())
}

fn push_bytes<'a>(to: &mut Vec<&'a [u8]>, value: Value<'a>, budgets: &mut Budgets) -> Result<(), Problem> {
    budgets.numbers.spend(1)?;
    to.push(value.bytes()?);
    Ok(())
}

/// Bytes that must be text.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| Problem::malformed("a text is not UTF-8"))
}
