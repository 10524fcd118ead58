//! The body of a prediction request, read once into rows of numbers.
//!
//! Comes in: the bytes of `{"features":[…]}` or `{"instances":[[…],…]}`. Goes out: [`Rows`], or every fault
//! with the field it is in. Never: a check against a model; that is `schema`'s.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How many faults of one body are told; a body of a million bad cells must not be answered with a larger one.
pub const FAULTS_MAX: usize = 20;

/// Rows of numbers, one after the other; they may differ in length until a schema has checked them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    values: Vec<f64>,
    ends: Vec<usize>,
    single: bool,
}

impl Rows {
    /// The one row of a request with `features`.
    pub fn single(values: Vec<f64>) -> Self {
        Self { ends: vec![values.len()], values, single: true }
    }

    /// The rows of a request with `instances`.
    pub fn instances<R: AsRef<[f64]>>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut all = Self::default();
        for row in rows {
            all.values.extend_from_slice(row.as_ref());
            all.ends.push(all.values.len());
        }
        all
    }

    /// Whether the request had `features`: the answer then has one prediction instead of a list.
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        let start = |i: usize| if i == 0 { 0 } else { self.ends[i - 1] };
        self.ends.iter().enumerate().map(move |(i, &end)| &self.values[start(i)..end])
    }
}

/// Where in the body a fault is: `features`, `features.2`, `instances.3.2`, or the body itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The member, or none where the body as a whole is at fault.
    pub member: Option<&'static str>,
    /// The indices below it.
    pub indices: Vec<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.member.unwrap_or("body"))?;
        self.indices.iter().try_for_each(|index| write!(f, ".{index}"))
    }
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The body is JSON, but no object.
    NotAnObject,
    /// The member is not there.
    Missing,
    /// Both `features` and `instances` are there.
    BothGiven,
    /// There must be at least one row.
    NoRows,
    /// Something else stands where a list belongs.
    NotAList,
    /// Something else stands where a number belongs.
    NotANumber,
    /// A number too large for a 64-bit float.
    NotFinite,
    /// The row is not as long as the model has features.
    WrongLength {
        /// How many features the model has.
        expected: usize,
        /// How many values the row has.
        found: usize,
    },
    /// The value lies outside the bounds of its feature.
    OutOfBounds {
        /// The feature's name.
        feature: String,
        /// The value given.
        value: f64,
        /// The lowest value it may have.
        min: Option<f64>,
        /// The highest value it may have.
        max: Option<f64>,
    },
}

impl Fault {
    /// Whether the body has the wrong shape, as opposed to values that do not fit a model.
    pub fn is_shape(&self) -> bool {
        match self {
            Self::NotAnObject
            | Self::Missing
            | Self::BothGiven
            | Self::NoRows
            | Self::NotAList
            | Self::NotANumber => true,
            Self::NotFinite | Self::WrongLength { .. } | Self::OutOfBounds { .. } => false,
        }
    }

    /// One word for the kind of fault, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotAnObject => "object_type",
            Self::Missing => "missing",
            Self::BothGiven => "both_given",
            Self::NoRows => "too_short",
            Self::NotAList => "list_type",
            Self::NotANumber => "number_type",
            Self::NotFinite => "finite_number",
            Self::WrongLength { .. } => "wrong_length",
            Self::OutOfBounds { .. } => "out_of_bounds",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("must be an object with features or instances"),
            Self::Missing => f.write_str("is required"),
            Self::BothGiven => f.write_str("must not be given together with features"),
            Self::NoRows => f.write_str("must have at least one row"),
            Self::NotAList => f.write_str("must be a list"),
            Self::NotANumber => f.write_str("must be a number"),
            Self::NotFinite => f.write_str("must be a finite number"),
            Self::WrongLength { expected, found } => {
                write!(f, "must have {expected} values, one per feature of the model, but has {found}")
            }
            Self::OutOfBounds { feature, value, min, max } => match (min, max) {
                (Some(min), Some(max)) => {
                    write!(f, "{feature} must be between {min} and {max}, but is {value}")
                }
                (Some(min), None) => write!(f, "{feature} must be at least {min}, but is {value}"),
                (None, Some(max)) => write!(f, "{feature} must be at most {max}, but is {value}"),
                (None, None) => write!(f, "{feature} is out of bounds: {value}"),
            },
        }
    }
}

/// A fault and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldFault {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

impl FieldFault {
    /// A fault of the member `member`, below it at `indices`.
    pub fn at(member: &'static str, indices: &[usize], fault: Fault) -> Self {
        Self { place: Place { member: Some(member), indices: indices.to_vec() }, fault }
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.fault)
    }
}

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyError {
    /// It is not JSON; the parser's words, with line and column.
    Malformed(String),
    /// It is JSON with faults: at least one, at most [`FAULTS_MAX`].
    Faults(Vec<FieldFault>),
}

const FEATURES: &str = "features";
const INSTANCES: &str = "instances";

/// Reads a body. The common case is one pass without an allocation per value; only a body with a fault is
/// read a second time, to say what is wrong with it.
pub fn parse(body: &[u8]) -> Result<Rows, BodyError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = deserializer.deserialize_map(BodyVisitor).and_then(|rows| deserializer.end().map(|()| rows));
    match read {
        Ok(rows) if !rows.is_empty() => Ok(rows),
        Ok(_) | Err(_) => Err(diagnose(body)),
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Rows;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with features or instances")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows, A::Error> {
        let mut rows: Option<Rows> = None;
        while let Some(key) = map.next_key::<Key>()? {
            if rows.is_some() && key != Key::Other {
                return Err(A::Error::custom("features and instances"));
            }
            match key {
                Key::Features => {
                    let mut one = Rows { single: true, ..Rows::default() };
                    map.next_value_seed(RowSeed(&mut one))?;
                    rows = Some(one);
                }
                Key::Instances => rows = Some(map.next_value_seed(RowsSeed)?),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        rows.ok_or_else(|| A::Error::missing_field(FEATURES))
    }
}

#[derive(PartialEq)]
enum Key {
    Features,
    Instances,
    Other,
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(match text {
                    FEATURES => Key::Features,
                    INSTANCES => Key::Instances,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

struct RowsSeed;

impl<'de> DeserializeSeed<'de> for RowsSeed {
    type Value = Rows;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Rows, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsSeed {
    type Value = Rows;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows, A::Error> {
        let mut rows = Rows::default();
        while seq.next_element_seed(RowSeed(&mut rows))?.is_some() {}
        Ok(rows)
    }
}

struct RowSeed<'a>(&'a mut Rows);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<f64>()? {
            self.0.values.push(value);
        }
        self.0.ends.push(self.0.values.len());
        Ok(())
    }
}

/// Reads a body that [`parse`] could not: cells stay raw text, so that each is judged by itself. Raw text is
/// skipped without recursion, so the depth of a body costs nothing.
fn diagnose(body: &[u8]) -> BodyError {
    let whole: &RawValue = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        Err(error) => return BodyError::Malformed(error.to_string()),
    };
    if !whole.get().starts_with('{') {
        let place = Place { member: None, indices: Vec::new() };
        return BodyError::Faults(vec![FieldFault { place, fault: Fault::NotAnObject }]);
    }
    let members: RawMembers<'_> = match serde_json::from_slice(body) {
        Ok(members) => members,
        Err(error) => return BodyError::Malformed(error.to_string()),
    };
    let mut faults = Vec::new();
    match (members.features, members.instances) {
        (None, None) => faults.push(FieldFault::at(FEATURES, &[], Fault::Missing)),
        (Some(_), Some(_)) => faults.push(FieldFault::at(INSTANCES, &[], Fault::BothGiven)),
        (Some(row), None) => judge_row(FEATURES, &[], row, &mut faults),
        (None, Some(rows)) => judge_rows(rows, &mut faults),
    }
    if faults.is_empty() {
        // Each member is right by itself, so one of them must stand there twice.
        return BodyError::Malformed("features or instances is given more than once".to_owned());
    }
    BodyError::Faults(faults)
}

#[derive(serde::Deserialize)]
struct RawMembers<'a> {
    #[serde(borrow, default)]
    features: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instances: Option<&'a RawValue>,
}

fn judge_rows(rows: &RawValue, faults: &mut Vec<FieldFault>) {
    match serde_json::from_str::<Vec<&RawValue>>(rows.get()) {
        Err(_) => faults.push(FieldFault::at(INSTANCES, &[], Fault::NotAList)),
        Ok(rows) if rows.is_empty() => faults.push(FieldFault::at(INSTANCES, &[], Fault::NoRows)),
        Ok(rows) => rows.iter().enumerate().for_each(|(i, row)| judge_row(INSTANCES, &[i], row, faults)),
    }
}

fn judge_row(member: &'static str, at: &[usize], row: &RawValue, faults: &mut Vec<FieldFault>) {
    let Ok(cells) = serde_json::from_str::<Vec<&RawValue>>(row.get()) else {
        return push(faults, || FieldFault::at(member, at, Fault::NotAList));
    };
    for (index, cell) in cells.iter().enumerate() {
        let text = cell.get();
        let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let fault = match text.parse::<f64>() {
            Ok(number) if is_number && number.is_finite() => continue,
            Ok(_) if is_number => Fault::NotFinite,
            Ok(_) | Err(_) => Fault::NotANumber,
        };
        push(faults, || FieldFault::at(member, &[at, &[index]].concat(), fault));
    }
}

fn push(faults: &mut Vec<FieldFault>, fault: impl FnOnce() -> FieldFault) {
    if faults.len() < FAULTS_MAX {
        faults.push(fault());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn faults(body: &str) -> Vec<String> {
        match parse(body.as_bytes()) {
            Err(BodyError::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
            other => panic!("{body} gave {other:?}"),
        }
    }

    fn malformed(body: &str) -> String {
        match parse(body.as_bytes()) {
            Err(BodyError::Malformed(text)) => text,
            other => panic!("{body} gave {other:?}"),
        }
    }

    #[test]
    fn one_row_and_many_rows_are_read() {
        let rows = parse(br#"{"features":[1,-2.5,3e2]}"#).unwrap();
        assert!(rows.is_single());
        assert_eq!(rows, Rows::single(vec![1.0, -2.5, 300.0]));

        let rows = parse(br#" {"user":{"id":[1]},"instances":[[1],[],[2,3]]} "#).unwrap();
        assert!(!rows.is_single());
        assert_eq!(rows.iter().collect::<Vec<_>>(), [&[1.0][..], &[], &[2.0, 3.0]]);
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        assert_eq!(faults("{}"), ["features is required"]);
        assert_eq!(faults("[1,2]"), ["body must be an object with features or instances"]);
        assert_eq!(faults(r#"{"features":4}"#), ["features must be a list"]);
        assert_eq!(faults(r#"{"features":null}"#), ["features is required"]);
        assert_eq!(
            faults(r#"{"features":[1,"2",null,true,[3],1e999,-1e999]}"#),
            [
                "features.1 must be a number",
                "features.2 must be a number",
                "features.3 must be a number",
                "features.4 must be a number",
                "features.5 must be a finite number",
                "features.6 must be a finite number",
            ]
        );
        assert_eq!(
            faults(r#"{"instances":[[1],2,["x"]]}"#),
            ["instances.1 must be a list", "instances.2.0 must be a number"]
        );
        assert_eq!(faults(r#"{"instances":[]}"#), ["instances must have at least one row"]);
        assert_eq!(
            faults(r#"{"features":[1],"instances":[[1]]}"#),
            ["instances must not be given together with features"]
        );
    }

    #[test]
    fn what_is_not_json_is_told_with_line_and_column() {
        for body in
            ["", "{", r#"{"features":[1,"#, r#"{"features":[NaN]}"#, "not json", r#"{"features":[1]}x"#]
        {
            assert!(malformed(body).contains("line 1 column"), "{body}");
        }
        assert!(malformed(r#"{"features":[1],"features":[2]}"#).contains("duplicate field"), "");
        assert!(matches!(parse(b"{\"features\":[\xff]}"), Err(BodyError::Malformed(_))));
    }

    #[test]
    fn depth_and_number_of_faults_are_bounded() {
        let deep = format!(r#"{{"features":[{}{}]}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(faults(&deep), ["features.0 must be a number"]);
        let many = format!(r#"{{"features":[{}0]}}"#, "\"x\",".repeat(10_000));
        assert_eq!(faults(&many).len(), FAULTS_MAX);
    }

    proptest! {
        #[test]
        fn a_row_survives_json_bit_by_bit(values in prop::collection::vec(prop::num::f64::NORMAL, 0..20)) {
            let body = serde_json::to_vec(&serde_json::json!({"features": values})).unwrap();
            prop_assert_eq!(parse(&body).unwrap(), Rows::single(values));
        }

        #[test]
        fn any_bytes_give_rows_or_an_error(body in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(parse(&body));
        }

        #[test]
        fn any_text_of_json_signs_gives_rows_or_an_error(body in r#"[\[\]{}",:a-f0-9eE.\- ]{0,40}"#) {
            drop(parse(format!(r#"{{"features":{body}}}"#).as_bytes()));
        }
    }
}
