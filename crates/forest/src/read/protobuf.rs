//! The fields of a protobuf message, read within the bytes that are there. It knows no message and does not nest by itself.

use crate::read::error::Problem;

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

/// How many numbers and messages a file may have in all. Each costs more memory than it has bytes in the file.
#[derive(Debug)]
pub(crate) struct Budget {
    what: &'static str,
    max: usize,
    spent: usize,
}

impl Budget {
    /// A budget of `max` things that are called `what`.
    pub(crate) fn new(what: &'static str, max: usize) -> Self {
        Self { what, max, spent: 0 }
    }

    /// Takes `count` from the budget.
    pub(crate) fn spend(&mut self, count: usize) -> Result<(), Problem> {
        self.spent = self.spent.saturating_add(count);
        if self.spent > self.max {
            return Err(Problem::Limit { what: self.what, found: self.spent, max: self.max });
        }
        Ok(())
    }
}

impl<'a> Fields<'a> {
    /// The fields of the message in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number and value of the next field.
    pub(crate) fn read(&mut self) -> Result<Option<(u64, Value<'a>)>, Problem> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Eight(self.array()?),
            2 => {
                let length = varint(&mut self.rest)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Four(self.array()?),
            wire => {
                return Err(Problem::malformed(format!(
                    "a field has wire type {wire}, which ONNX does not use"
                )));
            }
        };
        match key >> 3 {
            0 => Err(Problem::malformed("a field has the number 0")),
            number => Ok(Some((number, value))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            let left = self.rest.len();
            return Err(Problem::malformed(format!("a field has {length} bytes, but only {left} are left")));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Problem::malformed("a number is cut off"))
    }
}

/// An integer of seven bits a byte, the lowest first. It is cut off `bytes`.
fn varint(bytes: &mut &[u8]) -> Result<u64, Problem> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Problem::malformed("an integer is cut off or longer than ten bytes"))
}

impl<'a> Value<'a> {
    /// The bytes of text, bytes or a message.
    pub(crate) fn bytes(self) -> Result<&'a [u8], Problem> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Eight(_) | Self::Four(_) => Err(wrong("bytes")),
        }
    }

    /// Text.
    pub(crate) fn text(self) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Problem::malformed("a text is not UTF-8"))
    }

    /// A signed integer.
    pub(crate) fn int(self) -> Result<i64, Problem> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            Self::Bytes(_) | Self::Eight(_) | Self::Four(_) => Err(wrong("an integer")),
        }
    }

    /// A 32-bit float.
    pub(crate) fn float(self) -> Result<f32, Problem> {
        match self {
            Self::Four(bytes) => Ok(f32::from_le_bytes(bytes)),
            Self::Varint(_) | Self::Bytes(_) | Self::Eight(_) => Err(wrong("a 32-bit float")),
        }
    }

    /// Appends one integer, or packed ones.
    pub(crate) fn ints(self, to: &mut Vec<i64>, budget: &mut Budget) -> Result<(), Problem> {
        match self {
            Self::Bytes(mut packed) => {
                // Every integer ends in a byte below 128.
                budget.spend(packed.iter().filter(|byte| **byte < 0x80).count())?;
                while !packed.is_empty() {
                    to.push(varint(&mut packed)?.cast_signed());
                }
            }
            Self::Varint(_) | Self::Eight(_) | Self::Four(_) => {
                budget.spend(1)?;
                to.push(self.int()?);
            }
        }
        Ok(())
    }

    /// Appends one 32-bit float, or packed ones.
    pub(crate) fn floats(self, to: &mut Vec<f32>, budget: &mut Budget) -> Result<(), Problem> {
        match self {
            Self::Bytes(packed) => {
                budget.spend(packed.len() / 4)?;
                to.extend(chunks(packed)?.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            Self::Varint(_) | Self::Eight(_) | Self::Four(_) => {
                budget.spend(1)?;
                to.push(self.float()?);
            }
        }
        Ok(())
    }

    /// Appends one 64-bit float, or packed ones.
    pub(crate) fn doubles(self, to: &mut Vec<f64>, budget: &mut Budget) -> Result<(), Problem> {
        match self {
            Self::Bytes(packed) => {
                budget.spend(packed.len() / 8)?;
                to.extend(chunks(packed)?.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            }
            Self::Eight(bytes) => {
                budget.spend(1)?;
                to.push(f64::from_le_bytes(bytes));
            }
            Self::Varint(_) | Self::Four(_) => return Err(wrong("a 64-bit float")),
        }
        Ok(())
    }
}

/// `bytes` as whole numbers of `N` bytes each.
pub(crate) fn chunks<const N: usize>(bytes: &[u8]) -> Result<&[[u8; N]], Problem> {
    match bytes.as_chunks() {
        (chunks, []) => Ok(chunks),
        _ => Err(Problem::malformed(format!("{} bytes are not whole numbers of {N} bytes", bytes.len()))),
    }
}

fn wrong(expected: &str) -> Problem {
    Problem::malformed(format!("a field has another type than {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, String> {
        let mut fields = Fields::new(bytes);
        let mut found = Vec::new();
        while let Some(field) = fields.read().map_err(|problem| problem.to_string())? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn each_wire_type_is_read() {
        let found = all(b"\x08\x96\x01\x12\x03abc\x1d\0\0\x80\x3f\x21\0\0\0\0\0\0\xf0\x3f").unwrap();
        let float = 1_f32.to_le_bytes();
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"abc")),
            (3, Value::Four(float)),
            (4, Value::Eight(1_f64.to_le_bytes())),
        ];
        assert_eq!(found, expected);
        assert_eq!(Value::Varint(u64::MAX).int(), Ok(-1));
    }

    #[test]
    fn packed_and_single_numbers_are_appended() {
        let (mut ints, mut floats, mut budget) = (Vec::new(), Vec::new(), Budget::new("numbers", 6));
        Value::Bytes(b"\x01\x96\x01").ints(&mut ints, &mut budget).unwrap();
        Value::Varint(7).ints(&mut ints, &mut budget).unwrap();
        Value::Bytes(b"\0\0\x80\x3f\0\0\0\x40").floats(&mut floats, &mut budget).unwrap();
        Value::Four(3_f32.to_le_bytes()).floats(&mut floats, &mut budget).unwrap();
        assert_eq!((ints, floats), (vec![1, 150, 7], vec![1.0, 2.0, 3.0]));
        let problem = Value::Varint(7).ints(&mut Vec::new(), &mut budget).unwrap_err();
        assert_eq!(problem.to_string(), "numbers must be at most 6, got 7");
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
        assert!(Value::Bytes(b"abc").floats(&mut Vec::new(), &mut Budget::new("numbers", 9)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_fields_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(found) = all(&bytes) {
                prop_assert!(found.len() <= bytes.len());
            }
        }
    }
}
