//! Reads arrays in the `.npy` format of `NumPy`: a header that is a Python literal, and the numbers.

use crate::data::seen::Seen;
use crate::read::error::{Limits, Problem};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header.
const HEADER_MAX: usize = 1 << 16;
/// The most dimensions.
const DIMENSIONS_MAX: usize = 4;

/// An array of numbers, texts or records.
#[derive(Debug)]
pub(crate) struct Array {
    /// The length of each dimension.
    pub(crate) shape: Vec<usize>,
    fields: Vec<Field>,
    width: usize,
    is_fortran: bool,
    data: Vec<u8>,
}

/// A member of a record. An array without records has one, whose name is empty.
#[derive(Debug)]
struct Field {
    name: String,
    kind: Kind,
    offset: usize,
}

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    /// A signed integer of this many bytes.
    Signed(usize),
    Unsigned(usize),
    Float(usize),
    /// Text of this many code points of 4 bytes.
    Text(usize),
    /// Bytes without meaning.
    Void(usize),
}

impl Kind {
    fn width(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Signed(width) | Self::Unsigned(width) | Self::Float(width) | Self::Void(width) => width,
            Self::Text(length) => 4 * length,
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let unsupported = || {
            Problem::unsupported(
                format!("an array of element type {}", Seen::new(text)),
                "use little-endian numbers, bool and text",
            )
        };
        let mut characters = text.chars();
        let (order, letter) = (characters.next(), characters.next());
        let size: usize = characters.as_str().parse().map_err(|_| unsupported())?;
        let kind = match (letter, size) {
            (Some('b'), 1) => Self::Bool,
            (Some('i'), 1 | 2 | 4 | 8) => Self::Signed(size),
            (Some('u'), 1 | 2 | 4 | 8) => Self::Unsigned(size),
            (Some('f'), 4 | 8) => Self::Float(size),
            (Some('U'), 0..=HEADER_MAX) => Self::Text(size),
            (Some('V'), 1..=HEADER_MAX) => Self::Void(size),
            _ => return Err(unsupported()),
        };
        match order {
            Some('<') => Ok(kind),
            Some('|') if matches!(kind, Self::Void(_)) || kind.width() <= 1 => Ok(kind),
            _ => Err(unsupported()),
        }
    }
}

impl Array {
    /// Reads an array of at most `max` elements.
    pub(crate) fn parse(bytes: &[u8], max: usize) -> Result<Self, Problem> {
        let cut = || Problem::malformed("an array is cut");
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| Problem::malformed("an array does not begin as an .npy file"))?;
        let (length, rest) = match rest {
            [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
            [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
            [version, ..] => {
                let what = format!("version {version} of the .npy format");
                return Err(Problem::unsupported(what, "save it with NumPy 1 or 2"));
            }
            [] => return Err(cut()),
        };
        Limits::check("bytes of an array's header", length, HEADER_MAX)?;
        let (header, data) = (rest.get(..length).ok_or_else(cut)?, &rest[length..]);
        let header =
            str::from_utf8(header).map_err(|_| Problem::malformed("an array's header is not UTF-8"))?;
        let Header { fields, is_fortran, shape } = Parser(header).header()?;
        let width = fields.iter().map(|field| field.kind.width()).fold(0, usize::saturating_add);
        let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        let count = count.unwrap_or(usize::MAX);
        Limits::check("elements of an array", count, max)?;
        if count.checked_mul(width) != Some(data.len()) {
            let found = data.len();
            return Err(Problem::malformed(format!(
                "an array of {count} elements of {width} bytes has {found} bytes"
            )));
        }
        Ok(Self { shape, fields, width, is_fortran, data: data.to_vec() })
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements are texts.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.fields[..], [Field { kind: Kind::Text(_), .. }])
    }

    /// The numbers, the last dimension fastest.
    pub(crate) fn numbers(&self) -> Result<Vec<f64>, Problem> {
        self.field("")
    }

    /// The numbers of one member of the records.
    pub(crate) fn field(&self, name: &str) -> Result<Vec<f64>, Problem> {
        let field = self.fields.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| {
            Problem::malformed(match name {
                "" => "an array of records is used as numbers".to_owned(),
                _ => format!("the records of an array have no {}", Seen::new(name)),
            })
        })?;
        if matches!(field.kind, Kind::Text(_) | Kind::Void(_)) {
            return Err(Problem::malformed("an array of texts is used as numbers"));
        }
        Ok(self.elements().map(|bytes| field.number(bytes)).collect())
    }

    /// The texts of the elements as Python prints them.
    pub(crate) fn texts(&self) -> Result<Vec<String>, Problem> {
        let [field] = &self.fields[..] else {
            return Err(Problem::malformed("an array of records is used as labels"));
        };
        self.elements().map(|bytes| field.text(bytes)).collect()
    }

    fn elements(&self) -> impl Iterator<Item = &[u8]> {
        let count = self.len();
        (0..count).map(move |index| {
            let at = if self.is_fortran { self.column_major(index) } else { index };
            &self.data[at * self.width..(at + 1) * self.width]
        })
    }

    /// Where the element of an index is stored if the first dimension is the fastest.
    fn column_major(&self, mut index: usize) -> usize {
        let mut stride = self.len();
        let mut at = 0;
        for length in self.shape.iter().rev() {
            stride /= length;
            at += index % length * stride;
            index /= length;
        }
        at
    }
}

impl Field {
    fn bits(&self, record: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        let width = self.kind.width().min(8);
        bytes[..width].copy_from_slice(&record[self.offset..self.offset + width]);
        u64::from_le_bytes(bytes)
    }

    fn signed(&self, record: &[u8]) -> i64 {
        let unused = 64 - 8 * self.kind.width().clamp(1, 8);
        (self.bits(record) << unused).cast_signed() >> unused
    }

    fn number(&self, record: &[u8]) -> f64 {
        match self.kind {
            Kind::Float(4) => f64::from(f32::from_bits(self.bits(record) as u32)),
            Kind::Float(_) => f64::from_bits(self.bits(record)),
            Kind::Signed(_) => self.signed(record) as f64,
            Kind::Bool | Kind::Unsigned(_) | Kind::Text(_) | Kind::Void(_) => self.bits(record) as f64,
        }
    }

    fn text(&self, record: &[u8]) -> Result<String, Problem> {
        Ok(match self.kind {
            Kind::Bool => if self.bits(record) == 0 { "False" } else { "True" }.to_owned(),
            Kind::Signed(_) => self.signed(record).to_string(),
            Kind::Unsigned(_) => self.bits(record).to_string(),
            Kind::Float(_) => format!("{:?}", self.number(record)),
            Kind::Text(_) => {
                let points = record
                    .chunks_exact(4)
                    .map(|point| u32::from_le_bytes([point[0], point[1], point[2], point[3]]));
                // Texts are filled up with zeros.
                let text: Option<String> =
                    points.take_while(|point| *point != 0).map(char::from_u32).collect();
                text.ok_or_else(|| Problem::malformed("an array has a text that is not Unicode"))?
            }
            Kind::Void(_) => return Err(Problem::malformed("an array of bytes is used as labels")),
        })
    }
}

struct Header {
    fields: Vec<Field>,
    is_fortran: bool,
    shape: Vec<usize>,
}

/// Reads the Python literal of a header, such as `{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }`.
struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<Header, Problem> {
        let (mut fields, mut is_fortran, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.take("}") {
            let key = self.text()?;
            self.expect(":")?;
            match key {
                "descr" => fields = Some(self.fields()?),
                "fortran_order" => {
                    is_fortran = Some(self.take("True"));
                    if is_fortran == Some(false) {
                        self.expect("False")?;
                    }
                }
                "shape" => shape = Some(self.shape()?),
                _ => return Err(self.error()),
            }
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        match (fields, is_fortran, shape) {
            (Some(fields), Some(is_fortran), Some(shape)) if self.0.trim().is_empty() => {
                Ok(Header { fields, is_fortran, shape })
            }
            _ => Err(self.error()),
        }
    }

    fn fields(&mut self) -> Result<Vec<Field>, Problem> {
        if !self.take("[") {
            let kind = Kind::parse(self.text()?)?;
            return Ok(vec![Field { name: String::new(), kind, offset: 0 }]);
        }
        let mut fields = Vec::new();
        let mut offset = 0;
        while !self.take("]") {
            self.expect("(")?;
            let name = self.text()?.to_owned();
            self.expect(",")?;
            let kind = Kind::parse(self.text()?)?;
            self.expect(")")?;
            if !matches!(kind, Kind::Void(_)) && fields.iter().any(|field: &Field| field.name == name) {
                return Err(self.error());
            }
            fields.push(Field { name, kind, offset });
            offset += kind.width();
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(fields)
    }

    fn shape(&mut self) -> Result<Vec<usize>, Problem> {
        self.expect("(")?;
        let mut shape = Vec::new();
        while !self.take(")") {
            let rest = self.0.trim_start();
            let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
            shape.push(rest[..end].parse().map_err(|_| self.error())?);
            Limits::check("dimensions of an array", shape.len(), DIMENSIONS_MAX)?;
            self.0 = &rest[end..];
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn text(&mut self) -> Result<&'a str, Problem> {
        self.expect("'")?;
        let (text, rest) = self.0.split_once('\'').ok_or_else(|| self.error())?;
        self.0 = rest;
        Ok(text)
    }

    fn take(&mut self, word: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(word);
        if let Some(rest) = rest {
            self.0 = rest;
        }
        rest.is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), Problem> {
        if self.take(word) { Ok(()) } else { Err(self.error()) }
    }

    fn error(&self) -> Problem {
        let rest = self.0.trim_start();
        let end = rest.char_indices().nth(20).map_or(rest.len(), |(end, _)| end);
        Problem::malformed(format!(
            "the header of an array cannot be read from {} on",
            Seen::new(&rest[..end])
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes();
        [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat()
    }

    fn read(descr: &str, order: &str, shape: &str, data: &[u8]) -> Result<Array, String> {
        let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}   \n");
        Array::parse(&npy(&header, data), 10).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_of_each_type_are_read_in_the_order_of_rows() {
        let numbers = |array: Result<Array, String>| array.unwrap().numbers().unwrap();
        assert_eq!(
            numbers(read("'|i1'", "False", "(2, 3)", &[1, 2, 3, 4, 5, 255])),
            [1.0, 2.0, 3.0, 4.0, 5.0, -1.0]
        );
        assert_eq!(
            numbers(read("'|u1'", "True", "(2, 3)", &[1, 4, 2, 5, 3, 255])),
            [1.0, 2.0, 3.0, 4.0, 5.0, 255.0]
        );
        assert_eq!(numbers(read("'<f8'", "False", "()", &0.1_f64.to_le_bytes())), [0.1]);
        assert_eq!(numbers(read("'<f4'", "False", "(1,)", &0.5_f32.to_le_bytes())), [0.5]);
        assert_eq!(numbers(read("'<i8'", "False", "(0,)", &[])), [0.0; 0]);
    }

    #[test]
    fn records_have_members_and_texts_have_no_padding() {
        let array = read(
            "[('a', '|u1'), ('', '|V2'), ('b', '<i2')]",
            "False",
            "(2,)",
            &[1, 0, 0, 2, 0, 3, 0, 0, 255, 255],
        );
        let array = array.unwrap();
        assert_eq!(array.field("a").unwrap(), [1.0, 3.0]);
        assert_eq!(array.field("b").unwrap(), [2.0, -1.0]);
        assert!(array.field("c").is_err() && array.numbers().is_err() && array.texts().is_err());
        let text = read("'<U2'", "False", "(2,)", &[b'a', 0, 0, 0, 0, 0, 0, 0, 0x41, 1, 0, 0, b'b', 0, 0, 0])
            .unwrap();
        assert_eq!(text.texts().unwrap(), ["a", "Łb"]);
        assert_eq!(read("'|b1'", "False", "(2,)", &[0, 1]).unwrap().texts().unwrap(), ["False", "True"]);
    }

    #[test]
    fn an_array_that_lies_about_itself_is_refused() {
        for (descr, shape, expected) in [
            ("'<f8'", "(2,)", "an array of 2 elements of 8 bytes has 3 bytes"),
            ("'|u1'", "(4,)", "an array of 4 elements of 1 bytes has 3 bytes"),
            ("'|u1'", "(99999999999, 99999999999)", "elements of an array must be at most 10"),
            ("'|u1'", "(3, 1, 1, 1, 1)", "dimensions of an array must be at most 4, got 5"),
            ("'|O'", "(3,)", "an array of element type \"|O\" is not supported"),
            ("'>i2'", "(3,)", "an array of element type \">i2\" is not supported"),
            ("[('a', '|u1'), ('a', '|u1')]", "(1,)", "the header of an array cannot be read"),
            ("__import__('os')", "(3,)", "the header of an array cannot be read"),
        ] {
            let found = read(descr, "False", shape, &[1, 2, 3]).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
