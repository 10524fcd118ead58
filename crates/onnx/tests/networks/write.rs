//! Writes small ONNX files, right and wrong ones.

/// A field of bytes or of a message.
pub(crate) fn field(number: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A field of an integer.
pub(crate) fn int(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value.cast_unsigned())].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A file of the parts of a graph, with operators of version 17.
pub(crate) fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    model_of(17, parts)
}

/// A file of the parts of a graph, with operators of a version.
pub(crate) fn model_of(opset: i64, parts: &[Vec<u8>]) -> Vec<u8> {
    [int(1, 8), field(7, parts.concat()), field(8, int(2, opset))].concat()
}

/// A node of ONNX itself.
pub(crate) fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    node_of("", operator, inputs, output, &[])
}

/// A node with attributes.
pub(crate) fn node_of(
    domain: &str,
    operator: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    let inputs = inputs.iter().map(|name| field(1, name)).collect::<Vec<_>>().concat();
    let attributes = attributes.iter().map(|attribute| field(5, attribute)).collect::<Vec<_>>().concat();
    field(1, [inputs, field(2, output), field(4, operator), attributes, field(7, domain)].concat())
}

/// An attribute of floats.
pub(crate) fn floats(name: &str, values: &[f32]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [field(1, name), field(7, packed), int(20, 6)].concat()
}

/// An attribute of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let values = values.iter().map(|value| int(8, *value)).collect::<Vec<_>>().concat();
    [field(1, name), values, int(20, 7)].concat()
}

/// An attribute of one integer.
pub(crate) fn one(name: &str, value: i64) -> Vec<u8> {
    [field(1, name), int(3, value), int(20, 2)].concat()
}

/// An attribute of text.
pub(crate) fn text(name: &str, value: &str) -> Vec<u8> {
    [field(1, name), field(4, value), int(20, 3)].concat()
}

/// A constant: its type, its shape and its bytes.
pub(crate) fn tensor(name: &str, kind: i64, shape: &[i64], bytes: &[u8]) -> Vec<u8> {
    field(5, [shape_of(shape), int(2, kind), field(8, name), field(9, bytes)].concat())
}

/// A constant of integers.
pub(crate) fn int_tensor(name: &str, values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, 7, &[values.len().cast_signed() as i64], &bytes)
}

/// A constant of floats.
pub(crate) fn float_tensor(name: &str, shape: &[i64], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, 1, shape, &bytes)
}

fn shape_of(shape: &[i64]) -> Vec<u8> {
    shape.iter().map(|size| int(1, *size)).collect::<Vec<_>>().concat()
}

/// An input. A dimension below 0 is dynamic.
pub(crate) fn input(name: &str, kind: i64, shape: &[i64]) -> Vec<u8> {
    field(11, port(name, kind, shape))
}

/// An output.
pub(crate) fn output(name: &str, kind: i64, shape: &[i64]) -> Vec<u8> {
    field(12, port(name, kind, shape))
}

fn port(name: &str, kind: i64, shape: &[i64]) -> Vec<u8> {
    let dimension = |size: &i64| field(1, if *size < 0 { field(2, "n") } else { int(1, *size) });
    let shape = shape.iter().map(dimension).collect::<Vec<_>>().concat();
    let tensor = [int(1, kind), field(2, shape)].concat();
    [field(1, name), field(2, field(1, tensor))].concat()
}
