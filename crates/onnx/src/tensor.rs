//! Tensors: their bytes are as many as the shape needs, in the same layout wherever the file has them.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::{GraphError, shown};
use crate::wire::{Fields, Value, Writer};

/// The types of elements.
pub(crate) mod kind {
    pub(crate) const FLOAT: i64 = 1;
    pub(crate) const UINT8: i64 = 2;
    pub(crate) const INT8: i64 = 3;
    pub(crate) const INT32: i64 = 6;
    pub(crate) const INT64: i64 = 7;
    pub(crate) const TEXT: i64 = 8;
    pub(crate) const BOOL: i64 = 9;
    pub(crate) const FLOAT16: i64 = 10;
    pub(crate) const DOUBLE: i64 = 11;
    pub(crate) const BFLOAT16: i64 = 16;
}

/// The word for a type of elements.
pub(crate) fn kind_name(kind: i64) -> String {
    match kind {
        kind::FLOAT => "float32".to_owned(),
        kind::UINT8 => "uint8".to_owned(),
        kind::INT8 => "int8".to_owned(),
        kind::INT32 => "int32".to_owned(),
        kind::INT64 => "int64".to_owned(),
        kind::TEXT => "text".to_owned(),
        kind::BOOL => "bool".to_owned(),
        kind::FLOAT16 => "float16".to_owned(),
        kind::DOUBLE => "float64".to_owned(),
        kind::BFLOAT16 => "bfloat16".to_owned(),
        other => format!("type {other}"),
    }
}

/// A constant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tensor<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) kind: i64,
    pub(crate) shape: Vec<usize>,
    /// The elements, little-endian; empty where they are texts or in another file.
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The elements of a tensor of texts.
    pub(crate) texts: Vec<&'a [u8]>,
    pub(crate) is_external: bool,
}

impl<'a> Tensor<'a> {
    /// A tensor of 32-bit floats.
    pub(crate) fn floats(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: Cow::Owned(name), kind: kind::FLOAT, shape, bytes: Cow::Owned(bytes), ..Self::default() }
    }

    /// A tensor of 64-bit integers.
    pub(crate) fn ints(name: String, shape: Vec<usize>, values: &[i64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { kind: kind::INT64, bytes: Cow::Owned(bytes), ..Self::floats(name, shape, &[]) }
    }

    /// A list of texts.
    pub(crate) fn of_texts(texts: Vec<&'a [u8]>) -> Self {
        Self { kind: kind::TEXT, shape: vec![texts.len()], texts, ..Self::default() }
    }

    /// Reads the message. Whether this program can run it is checked by [`Tensor::check`].
    pub(crate) fn read(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, GraphError> {
        budget.message()?;
        let mut tensor = Self::default();
        let mut ints = Vec::new();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.read()? {
            match number {
                1 => value.ints(|size| {
                    budget.dimensions(tensor.shape.len() + 1)?;
                    let size = usize::try_from(size);
                    tensor
                        .shape
                        .push(size.map_err(|_| GraphError::malformed("a tensor has a negative dimension"))?);
                    Ok(())
                })?,
                2 => tensor.kind = value.int()?,
                4 => tensor.append(value.four_bytes()?, 4, budget)?,
                5 | 7 => value.ints(|int| {
                    budget.numbers(1)?;
                    ints.push(int);
                    Ok(())
                })?,
                6 => {
                    budget.numbers(1)?;
                    tensor.texts.push(value.bytes()?);
                }
                8 => tensor.name = Cow::Borrowed(value.text()?),
                9 => {
                    let raw = value.bytes()?;
                    budget.numbers(raw.len() / 4)?;
                    tensor.bytes = Cow::Borrowed(raw);
                }
                10 => tensor.append(value.eight_bytes()?, 8, budget)?,
                13 => tensor.is_external = true,
                14 => tensor.is_external |= value.int()? != 0,
                _ => {}
            }
        }
        if !ints.is_empty() {
            tensor.bytes = Cow::Owned(narrowed(tensor.kind, &ints));
        }
        Ok(tensor)
    }

    fn append(&mut self, bytes: &[u8], size: usize, budget: &mut Budget) -> Result<(), GraphError> {
        budget.numbers(bytes.len() / size)?;
        self.bytes.to_mut().extend_from_slice(bytes);
        Ok(())
    }

    /// Refuses a tensor that cannot be run, or whose bytes do not fit its shape.
    pub(crate) fn check(&self) -> Result<(), GraphError> {
        if self.is_external {
            return Err(GraphError::unsupported(
                format!("tensor {:?}, whose numbers are in another file,", shown(&self.name)),
                "save the model as one file (torch.onnx.export(…, external_data=False))",
            ));
        }
        let Some(size) = size_of_element(self.kind) else {
            return Err(GraphError::unsupported(
                format!("tensor {:?} of {}", shown(&self.name), kind_name(self.kind)),
                "use float32, float64, int32, int64, int8, uint8 or bool",
            ));
        };
        let bytes = self.elements().and_then(|elements| elements.checked_mul(size));
        if bytes != Some(self.bytes.len()) {
            return Err(GraphError::malformed(format!(
                "tensor {:?} of shape {:?} and {} has {} bytes",
                shown(&self.name),
                self.shape,
                kind_name(self.kind),
                self.bytes.len()
            )));
        }
        Ok(())
    }

    /// How many elements the shape has, where a number can say it.
    pub(crate) fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))
    }

    /// Its elements, where it is of 32-bit floats.
    pub(crate) fn as_floats(&self) -> Option<Vec<f32>> {
        (self.kind == kind::FLOAT).then(|| each(&self.bytes, f32::from_le_bytes))
    }

    /// Its elements, where it is of integers.
    pub(crate) fn as_ints(&self) -> Option<Vec<i64>> {
        match self.kind {
            kind::INT64 => Some(each(&self.bytes, i64::from_le_bytes)),
            kind::INT32 => Some(each(&self.bytes, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            _ => None,
        }
    }

    /// The message of a checked tensor.
    pub(crate) fn write(&self) -> Writer {
        let mut message = Writer::default();
        for size in &self.shape {
            message.int(1, (*size).cast_signed() as i64);
        }
        message.int(2, self.kind);
        message.bytes(8, self.name.as_bytes());
        message.bytes(9, &self.bytes);
        message
    }
}

/// How many bytes an element has; `None` for types that are not run.
pub(crate) fn size_of_element(kind: i64) -> Option<usize> {
    match kind {
        kind::FLOAT | kind::INT32 => Some(4),
        kind::INT64 | kind::DOUBLE => Some(8),
        kind::UINT8 | kind::INT8 | kind::BOOL => Some(1),
        _ => None,
    }
}

/// Integers of the typed fields as the bytes that a tensor of this kind has.
fn narrowed(kind: i64, ints: &[i64]) -> Vec<u8> {
    match kind {
        kind::INT64 => ints.iter().flat_map(|int| int.to_le_bytes()).collect(),
        kind::UINT8 | kind::INT8 | kind::BOOL => ints.iter().map(|int| int.to_le_bytes()[0]).collect(),
        _ => ints.iter().flat_map(|int| (*int as i32).to_le_bytes()).collect(),
    }
}

fn each<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| number(*chunk)).collect()
}

/// The type and the dimensions of an input or output, as the file declares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Declared<'a> {
    pub(crate) name: &'a str,
    /// 0 where it is no tensor.
    pub(crate) kind: i64,
    /// Each dimension, where it is known.
    pub(crate) shape: Vec<Option<usize>>,
}

impl<'a> Declared<'a> {
    /// Reads the message.
    pub(crate) fn read(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, GraphError> {
        budget.message()?;
        let mut port = Self::default();
        for (number, value) in Message(bytes).fields()? {
            match number {
                1 => port.name = value.text()?,
                2 => {
                    for (_, tensor) in Message(value.bytes()?).only(1)? {
                        port.read_tensor_type(tensor.bytes()?, budget)?;
                    }
                }
                _ => {}
            }
        }
        Ok(port)
    }

    fn read_tensor_type(&mut self, bytes: &'a [u8], budget: &mut Budget) -> Result<(), GraphError> {
        for (number, value) in Message(bytes).fields()? {
            match number {
                1 => self.kind = value.int()?,
                2 => {
                    for (_, dimension) in Message(value.bytes()?).only(1)? {
                        budget.dimensions(self.shape.len() + 1)?;
                        let sizes = Message(dimension.bytes()?).only(1)?;
                        let size = sizes.first().map(|(_, size)| size.int()).transpose()?;
                        self.shape
                            .push(size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The message.
    pub(crate) fn write(&self) -> Writer {
        let mut shape = Writer::default();
        for (index, size) in self.shape.iter().enumerate() {
            let mut dimension = Writer::default();
            match size {
                Some(size) => dimension.int(1, (*size).cast_signed() as i64),
                None => dimension.bytes(2, format!("d{index}").as_bytes()),
            }
            shape.message(1, &dimension);
        }
        let mut tensor = Writer::default();
        tensor.int(1, self.kind);
        // The shape of an output is left open: what files declare can be wrong.
        if !self.shape.is_empty() {
            tensor.message(2, &shape);
        }
        let mut kind = Writer::default();
        kind.message(1, &tensor);
        let mut message = Writer::default();
        message.bytes(1, self.name.as_bytes());
        message.message(2, &kind);
        message
    }
}

/// The bytes of a small message.
struct Message<'a>(&'a [u8]);

/// The most fields of a small message.
const FIELDS_MAX: usize = 64;

impl<'a> Message<'a> {
    fn fields(&self) -> Result<Vec<(u64, Value<'a>)>, GraphError> {
        let mut found = Vec::new();
        let mut fields = Fields::new(self.0);
        while let Some(field) = fields.read()? {
            GraphError::limit("fields of a type", found.len() + 1, FIELDS_MAX)?;
            found.push(field);
        }
        Ok(found)
    }

    fn only(&self, wanted: u64) -> Result<Vec<(u64, Value<'a>)>, GraphError> {
        let mut fields = self.fields()?;
        fields.retain(|(number, _)| *number == wanted);
        Ok(fields)
    }
}
