//! Writes ONNX files for tests.

/// A message, field after field.
#[derive(Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value.cast_unsigned());
        self
    }

    pub(crate) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A graph of inputs, nodes and outputs.
#[derive(Clone, Default)]
pub(crate) struct Graph(Message);

impl Graph {
    /// An input of `columns` columns of an element type.
    pub(crate) fn input(self, name: &str, element: i64, columns: i64) -> Self {
        Self(self.0.message(11, &port(name, element, &[-1, columns])))
    }

    pub(crate) fn output(self, name: &str) -> Self {
        Self(self.0.message(12, &port(name, 1, &[])))
    }

    pub(crate) fn node(self, node: &Node) -> Self {
        Self(self.0.message(1, &node.0))
    }

    pub(crate) fn constant(self, tensor: &Message) -> Self {
        Self(self.0.message(5, tensor))
    }

    /// The bytes of a file.
    pub(crate) fn file(&self) -> Vec<u8> {
        Message::default().int(1, 8).bytes(2, "canopy-tests").message(7, &self.0).0
    }
}

fn port(name: &str, element: i64, shape: &[i64]) -> Message {
    let mut dimensions = Message::default();
    for size in shape {
        let dimension = Message::default();
        dimensions =
            dimensions.message(1, &if *size < 0 { dimension.bytes(2, "N") } else { dimension.int(1, *size) });
    }
    let tensor = Message::default().int(1, element).message(2, &dimensions);
    Message::default().bytes(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A tensor of 32-bit floats.
pub(crate) fn floats(name: &str, shape: &[i64], values: &[f32]) -> Message {
    let tensor = shape.iter().fold(Message::default(), |tensor, size| tensor.int(1, *size));
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor.int(2, 1).bytes(8, name).bytes(9, raw)
}

/// A tensor of 64-bit integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> Message {
    let tensor = Message::default().int(1, i64::try_from(values.len()).unwrap()).int(2, 7).bytes(8, name);
    values.iter().fold(tensor, |tensor, value| tensor.int(7, *value))
}

/// A node.
#[derive(Clone)]
pub(crate) struct Node(Message);

impl Node {
    /// An operator of ai.onnx.ml with its inputs and outputs.
    pub(crate) fn ml(operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        Self(Self::core(operator, inputs, outputs).0.bytes(7, "ai.onnx.ml"))
    }

    /// An operator of ai.onnx.
    pub(crate) fn core(operator: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let message = inputs.iter().fold(Message::default(), |message, name| message.bytes(1, name));
        let message = outputs.iter().fold(message, |message, name| message.bytes(2, name));
        Self(message.bytes(4, operator))
    }

    fn attribute(self, name: &str, value: impl Fn(Message) -> Message) -> Self {
        Self(self.0.message(5, &value(Message::default().bytes(1, name))))
    }

    pub(crate) fn int(self, name: &str, value: i64) -> Self {
        self.attribute(name, |message| message.int(3, value))
    }

    pub(crate) fn float(self, name: &str, value: f32) -> Self {
        self.attribute(name, |message| message.float(2, value))
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.attribute(name, |message| message.bytes(4, value))
    }

    pub(crate) fn ints(self, name: &str, values: &[i64]) -> Self {
        self.attribute(name, |message| values.iter().fold(message, |message, value| message.int(8, *value)))
    }

    pub(crate) fn floats(self, name: &str, values: &[f32]) -> Self {
        self.attribute(name, |message| values.iter().fold(message, |message, value| message.float(7, *value)))
    }

    pub(crate) fn texts(self, name: &str, values: &[&str]) -> Self {
        self.attribute(name, |message| values.iter().fold(message, |message, value| message.bytes(9, value)))
    }

    pub(crate) fn tensor(self, name: &str, tensor: &Message) -> Self {
        self.attribute(name, |message| message.message(5, tensor))
    }
}

impl Node {
    pub(crate) fn graph(self, graph: &Message) -> Self {
        self.attribute("then_branch", |message| message.message(6, graph))
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
