//! The protobuf encoding: fields are read within the bytes that are there, and written. Messages are not known here.

use crate::error::GraphError;

/// The fields of one message that are still to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// An integer.
    Varint(u64),
    /// Eight bytes: a 64-bit float.
    Eight([u8; 8]),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes: a 32-bit float.
    Four([u8; 4]),
}

impl<'a> Fields<'a> {
    /// The fields of the message in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number and the value of the next field.
    pub(crate) fn read(&mut self) -> Result<Option<(u64, Value<'a>)>, GraphError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Eight(self.array()?),
            2 => {
                let length = varint(&mut self.rest)?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Value::Four(self.array()?),
            wire => return Err(GraphError::malformed(format!("a field has wire type {wire}"))),
        };
        match key >> 3 {
            0 => Err(GraphError::malformed("a field has the number 0")),
            number => Ok(Some((number, value))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], GraphError> {
        let left = self.rest.len();
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(GraphError::malformed(format!(
                "a field has {length} bytes, but only {left} are left"
            )));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GraphError> {
        self.take(N)?.try_into().map_err(|_| GraphError::malformed("a number is cut off"))
    }
}

/// Reads an integer of seven bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Result<u64, GraphError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(GraphError::malformed("an integer is cut off or longer than ten bytes"))
}

impl<'a> Value<'a> {
    /// The bytes of text, bytes or a message.
    pub(crate) fn bytes(self) -> Result<&'a [u8], GraphError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Eight(_) | Self::Four(_) => Err(wrong("bytes")),
        }
    }

    /// Text.
    pub(crate) fn text(self) -> Result<&'a str, GraphError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| GraphError::malformed("a text is not UTF-8"))
    }

    /// A signed integer.
    pub(crate) fn int(self) -> Result<i64, GraphError> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            Self::Bytes(_) | Self::Eight(_) | Self::Four(_) => Err(wrong("an integer")),
        }
    }

    /// A 32-bit float.
    pub(crate) fn float(self) -> Result<f32, GraphError> {
        match self {
            Self::Four(bytes) => Ok(f32::from_le_bytes(bytes)),
            Self::Varint(_) | Self::Bytes(_) | Self::Eight(_) => Err(wrong("a 32-bit float")),
        }
    }

    /// Calls `each` with every one of the integers: one, or packed ones.
    pub(crate) fn ints(self, mut each: impl FnMut(i64) -> Result<(), GraphError>) -> Result<(), GraphError> {
        let Self::Bytes(mut packed) = self else { return each(self.int()?) };
        while !packed.is_empty() {
            each(varint(&mut packed)?.cast_signed())?;
        }
        Ok(())
    }

    /// The little-endian bytes of 32-bit floats: one, or packed ones.
    pub(crate) fn four_bytes(&self) -> Result<&[u8], GraphError> {
        match self {
            Self::Four(bytes) => Ok(bytes),
            Self::Bytes(bytes) if bytes.len().is_multiple_of(4) => Ok(bytes),
            Self::Bytes(_) | Self::Varint(_) | Self::Eight(_) => Err(wrong("32-bit floats")),
        }
    }

    /// The little-endian bytes of 64-bit floats: one, or packed ones.
    pub(crate) fn eight_bytes(&self) -> Result<&[u8], GraphError> {
        match self {
            Self::Eight(bytes) => Ok(bytes),
            Self::Bytes(bytes) if bytes.len().is_multiple_of(8) => Ok(bytes),
            Self::Bytes(_) | Self::Varint(_) | Self::Four(_) => Err(wrong("64-bit floats")),
        }
    }
}

fn wrong(expected: &str) -> GraphError {
    GraphError::malformed(format!("a field has another type than {expected}"))
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// The bytes of the message.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds an integer.
    pub(crate) fn int(&mut self, number: u64, value: i64) {
        self.varint(number << 3);
        self.varint(value.cast_unsigned());
    }

    /// Adds a 32-bit float.
    pub(crate) fn float(&mut self, number: u64, value: f32) {
        self.varint(number << 3 | 5);
        self.bytes.extend(value.to_le_bytes());
    }

    /// Adds text or bytes.
    pub(crate) fn bytes(&mut self, number: u64, value: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// Adds a message.
    pub(crate) fn message(&mut self, number: u64, message: &Writer) {
        self.bytes(number, &message.bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, String> {
        let mut fields = Fields::new(bytes);
        let mut found = Vec::new();
        while let Some(field) = fields.read().map_err(|error| error.to_string())? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn damaged_fields_are_refused() {
        for (bytes, expected) in [
            (&b"\x12\x05abc"[..], "a field has 5 bytes, but only 3 are left"),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a field has 18446744073709551615 bytes"),
            (b"\x08\xff", "an integer is cut off"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "an integer is cut off or longer"),
            (b"\x0b", "a field has wire type 3"),
            (b"\x00\x01", "a field has the number 0"),
            (b"\x1d\0\0", "a field has 4 bytes, but only 2 are left"),
        ] {
            let found = all(bytes).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
        assert!(Value::Bytes(b"abc").four_bytes().is_err());
        assert!(Value::Varint(1).text().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(int in any::<i64>(), text in any::<Vec<u8>>(), number in 1_u64..1000) {
            let mut writer = Writer::default();
            writer.int(number, int);
            writer.bytes(number, &text);
            let bytes = writer.into_bytes();
            let expected = vec![(number, Value::Varint(int.cast_unsigned())), (number, Value::Bytes(&text))];
            prop_assert_eq!(all(&bytes).unwrap(), expected);
        }

        #[test]
        fn any_bytes_end_in_fields_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(found) = all(&bytes) {
                prop_assert!(found.len() <= bytes.len());
            }
        }
    }
}
