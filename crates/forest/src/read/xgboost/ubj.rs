//! A reader of UBJ, the binary JSON of <https://ubjson.org>, as far as `XGBoost` writes it.
//!
//! Lengths and counts are compared with the bytes that are left before they are used, and nesting has a limit.

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Why bytes cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UbjError(String);

impl fmt::Display for UbjError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UbjError {}

impl serde::de::Error for UbjError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A reader at some place of its bytes.
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    length: usize,
    /// How many levels of nesting may still be opened.
    depth: usize,
    /// The type of the next value, where its array has it once for all.
    element: Option<u8>,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8], depth: usize) -> Self {
        Self { rest: bytes, length: bytes.len(), depth, element: None }
    }

    /// Refuses bytes after the value.
    pub(super) fn end(&self) -> Result<(), UbjError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.fault("there are bytes after the end of the model"))
        }
    }

    fn fault(&self, what: &str) -> UbjError {
        UbjError(format!("{what}, at byte {}", self.length - self.rest.len()))
    }

    fn take(&mut self, count: usize) -> Result<&'de [u8], UbjError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| {
            self.fault(&format!("{count} bytes are expected, but {} are left", self.rest.len()))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UbjError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, UbjError> {
        self.array().map(|[byte]| byte)
    }

    /// Takes the next byte if it is this one.
    fn skip(&mut self, byte: u8) -> bool {
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn integer(&mut self, marker: u8) -> Result<i64, UbjError> {
        Ok(match marker {
            b'i' => i8::from_be_bytes(self.array()?).into(),
            b'U' => self.byte()?.into(),
            b'I' => i16::from_be_bytes(self.array()?).into(),
            b'l' => i32::from_be_bytes(self.array()?).into(),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return Err(self.unknown(marker)),
        })
    }

    fn unknown(&self, marker: u8) -> UbjError {
        self.fault(&format!("type {:?} is not expected", char::from(marker)))
    }

    /// A length of elements that each have at least `size` bytes.
    fn length(&mut self, size: usize) -> Result<usize, UbjError> {
        let marker = self.byte()?;
        let length = self.integer(marker)?;
        let left = self.rest.len();
        usize::try_from(length).ok().filter(|length| *length <= left / size).ok_or_else(|| {
            self.fault(&format!(
                "length {length} of elements of {size} bytes is negative or beyond the file's end"
            ))
        })
    }

    fn text(&mut self) -> Result<&'de str, UbjError> {
        let length = self.length(1)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.fault("a text is not UTF-8"))
    }

    fn nest(&mut self) -> Result<(), UbjError> {
        self.depth = self.depth.checked_sub(1).ok_or_else(|| self.fault("values are nested too deeply"))?;
        Ok(())
    }

    /// The start of an array, behind its bracket.
    fn open_array(&mut self) -> Result<Elements<'_, 'de>, UbjError> {
        let marker = if self.skip(b'$') { Some(self.byte()?) } else { None };
        let size = match marker {
            None | Some(b'i' | b'U') => 1,
            Some(b'I') => 2,
            Some(b'l' | b'd') => 4,
            Some(b'L' | b'D') => 8,
            Some(marker) => return Err(self.unknown(marker)),
        };
        let left = if self.skip(b'#') { Some(self.length(size)?) } else { None };
        if marker.is_some() && left.is_none() {
            return Err(self.fault("an array with a type must have a count"));
        }
        Ok(Elements { reader: self, marker, left })
    }
}

/// The elements of an array.
struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    marker: Option<u8>,
    /// How many elements are left; without it, a bracket ends them.
    left: Option<usize>,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = UbjError;

    fn next_element_seed<T: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, UbjError> {
        match &mut self.left {
            Some(0) => return Ok(None),
            Some(left) => *left -= 1,
            None if self.reader.skip(b']') => {
                self.left = Some(0);
                return Ok(None);
            }
            None => {}
        }
        self.reader.element = self.marker;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

/// The members of an object.
struct Members<'a, 'de>(&'a mut Reader<'de>);

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = UbjError;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, UbjError> {
        if self.0.skip(b'}') {
            return Ok(None);
        }
        let key = self.0.text()?;
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: serde::de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, UbjError> {
        seed.deserialize(&mut *self.0)
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = UbjError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UbjError> {
        let marker = match self.element.take() {
            Some(marker) => marker,
            None => self.byte()?,
        };
        match marker {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'd' => visitor.visit_f32(f32::from_be_bytes(self.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(self.array()?)),
            b'S' => visitor.visit_borrowed_str(self.text()?),
            b'[' => {
                self.nest()?;
                let value = visitor.visit_seq(self.open_array()?)?;
                self.depth += 1;
                Ok(value)
            }
            b'{' => {
                self.nest()?;
                let value = visitor.visit_map(Members(self))?;
                self.depth += 1;
                Ok(value)
            }
            _ => visitor.visit_i64(self.integer(marker)?),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UbjError> {
        if self.element.is_none() && self.skip(b'Z') {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    fn read(bytes: &[u8]) -> Result<Value, String> {
        let mut reader = Reader::new(bytes, 3);
        let value = Value::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_all_types_are_read() {
        for (bytes, value) in [
            (&b"{U\x01aTi\x01bF}"[..], json!({"a": true, "b": false})),
            (b"[Zi\xffU\xffI\xff\xfel\0\0\0\x07L\0\0\0\0\0\0\0\x08]", json!([null, -1, 255, -2, 7, 8])),
            (b"[d\x3f\xc0\0\0D\xbf\xf8\0\0\0\0\0\0]", json!([1.5, -1.5])),
            (b"[$d#U\x02\x3f\xc0\0\0\xbf\xc0\0\0", json!([1.5, -1.5])),
            (b"[#i\x02Si\x02\xc3\xa9T", json!(["é", true])),
            (b"[#L\0\0\0\0\0\0\0\0", json!([])),
            (b"[[[]]]", json!([[[]]])),
        ] {
            assert_eq!(read(bytes).unwrap(), value, "{bytes:?}");
        }
    }

    #[test]
    fn counts_that_lie_deep_nesting_and_what_is_left_over_are_refused() {
        for (bytes, expected) in [
            (&b""[..], "1 bytes are expected, but 0 are left, at byte 0"),
            (b"[[[[]]]]", "values are nested too deeply, at byte 4"),
            (b"TT", "there are bytes after the end of the model, at byte 1"),
            (
                b"[$L#U\x02\0\0\0\0\0\0\0\0",
                "length 2 of elements of 8 bytes is negative or beyond the file's end, at byte 6",
            ),
            (b"[#i\xff", "length -1 of elements of 1 bytes is negative or beyond the file's end, at byte 4"),
            (b"Si\x03ab", "length 3 of elements of 1 bytes is negative or beyond the file's end, at byte 3"),
            (b"[$Z#U\x7f", "type 'Z' is not expected, at byte 3"),
            (b"[$U", "an array with a type must have a count, at byte 3"),
            (b"Si\x01\xff", "a text is not UTF-8, at byte 4"),
            (b"H", "type 'H' is not expected, at byte 1"),
        ] {
            assert_eq!(read(bytes).unwrap_err(), expected, "{bytes:?}");
        }
    }
}
