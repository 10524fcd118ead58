//! Parses the body of a prediction request, `{"features":[…]}` or `{"instances":[[…],…]}`, into [`Rows`].
//!
//! Every fault is reported with its field. Values are not checked against a model; `schema` does that.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::fault::{FAULTS_MAX, Fault, FieldFault, Place};
use crate::malformed::malformed;
use crate::rows::Rows;

/// The default limit of a body at a gateway.
pub const BODY_MAX_BYTES: usize = 2 << 20;
/// The default limit of a body at a predictor. A gateway passes numbers on as it read them,
/// in full: `1` as `1.0`, `1e15` as `1000000000000000.0`. That makes at most four bytes of one, and what a gateway took
/// must not be too long for the predictor behind it.
pub const FORWARDED_MAX_BYTES: usize = 4 * BODY_MAX_BYTES;

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
/// read a second time to find its errors.
pub fn parse(body: &[u8]) -> Result<Rows, BodyError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = deserializer.deserialize_map(BodyVisitor).and_then(|rows| deserializer.end().map(|()| rows));
    match read {
        Ok(rows) if !rows.is_empty() => Ok(rows),
        Ok(_) | Err(_) => diagnose(body),
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
            if rows.is_some() || key == Key::Other {
                return Err(A::Error::custom("a second member, or an unknown one"));
            }
            match key {
                Key::Features => {
                    let mut one = Rows::default();
                    map.next_value_seed(RowSeed(&mut one))?;
                    rows = Some(one.into_single());
                }
                Key::Instances => rows = Some(map.next_value_seed(RowsSeed)?),
                Key::Other => {}
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
            self.0.push(value);
        }
        self.0.end_row();
        Ok(())
    }
}

/// Reads a body that [`parse`] could not: cells stay raw text, so that each is judged by itself. Raw text is
/// skipped without recursion, so the depth of a body costs nothing.
/// A member that is null counts as absent, as clients with typed bodies write it: the other one is then read alone.
fn diagnose(body: &[u8]) -> Result<Rows, BodyError> {
    let whole: &RawValue = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        Err(error) => return Err(BodyError::Malformed(malformed(body, &error))),
    };
    if !whole.get().starts_with('{') {
        let place = Place { member: None, indices: Vec::new() };
        return Err(BodyError::Faults(vec![FieldFault { place, fault: Fault::NotAnObject }]));
    }
    let members: RawMembers<'_> = match serde_json::from_slice(body) {
        Ok(members) => members,
        Err(error) => return Err(BodyError::Malformed(error.to_string())),
    };
    let mut faults = members.unknown;
    match (members.features, members.instances) {
        // A member with another name is most likely meant to be one of these two.
        (None, None) if !faults.is_empty() => {}
        (None, None) => faults.push(FieldFault::at(FEATURES, &[], Fault::Missing)),
        (Some(_), Some(_)) => push(&mut faults, || FieldFault::at(INSTANCES, &[], Fault::BothGiven)),
        (Some(row), None) => judge_row(FEATURES, &[], row, &mut faults),
        (None, Some(rows)) => judge_rows(rows, &mut faults),
    }
    if !faults.is_empty() {
        return Err(BodyError::Faults(faults));
    }
    let alone = match (members.features, members.instances) {
        (Some(row), None) if members.has_null => format!("{{\"{FEATURES}\":{}}}", row.get()),
        (None, Some(rows)) if members.has_null => format!("{{\"{INSTANCES}\":{}}}", rows.get()),
        // Each member is right by itself. The two passes disagree, which a client cannot mend.
        _ => return Err(BodyError::Malformed("the body could not be read".to_owned())),
    };
    parse(alone.as_bytes())
}

/// The members of a body, each as raw text.
#[derive(Default)]
struct RawMembers<'a> {
    features: Option<&'a RawValue>,
    instances: Option<&'a RawValue>,
    /// Whether one of the two is null.
    has_null: bool,
    unknown: Vec<FieldFault>,
}

impl<'de> serde::Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = RawMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with features or instances")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMembers<'de>, A::Error> {
        let mut members = RawMembers::default();
        let (mut has_features, mut has_instances) = (false, false);
        while let Some(name) = map.next_key::<String>()? {
            let value: &RawValue = map.next_value()?;
            let given = Some(value).filter(|value| value.get() != "null");
            members.has_null |= given.is_none() && [FEATURES, INSTANCES].contains(&name.as_str());
            match name.as_str() {
                FEATURES if has_features => return Err(A::Error::duplicate_field(FEATURES)),
                INSTANCES if has_instances => return Err(A::Error::duplicate_field(INSTANCES)),
                FEATURES => (members.features, has_features) = (given, true),
                INSTANCES => (members.instances, has_instances) = (given, true),
                other => push(&mut members.unknown, || FieldFault::unknown_member(other)),
            }
        }
        Ok(members)
    }
}

fn judge_rows(rows: &RawValue, faults: &mut Vec<FieldFault>) {
    match serde_json::from_str::<Vec<&RawValue>>(rows.get()) {
        Err(_) => push(faults, || FieldFault::at(INSTANCES, &[], Fault::NotAList)),
        Ok(rows) if rows.is_empty() => push(faults, || FieldFault::at(INSTANCES, &[], Fault::NoRows)),
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

    #[test]
    fn a_member_that_is_null_is_absent() {
        for body in [
            r#"{"features":[1,2],"instances":null}"#,
            r#"{"instances":null,"features":[1,2]}"#,
            r#"{"features":null,"instances":[[1,2]]}"#,
        ] {
            let rows = parse(body.as_bytes()).unwrap();
            assert_eq!(rows.iter().map(<[f64]>::to_vec).collect::<Vec<_>>(), [vec![1.0, 2.0]], "{body}");
        }
        let both = parse(br#"{"features":null,"instances":null}"#).unwrap_err();
        assert_eq!(both, BodyError::Faults(vec![FieldFault::at(FEATURES, &[], Fault::Missing)]));
    }

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

        let rows = parse(br#" {"instances":[[1],[],[2,3]]} "#).unwrap();
        assert!(!rows.is_single());
        assert_eq!(rows.iter().collect::<Vec<_>>(), [&[1.0][..], &[], &[2.0, 3.0]]);
    }

    #[test]
    fn a_byte_order_mark_is_named() {
        let with_mark = |mark: &[u8]| match parse(&[mark, br#"{"features":[1]}"#].concat()) {
            Err(BodyError::Malformed(text)) => text,
            other => panic!("{mark:?} gave {other:?}"),
        };
        let expected = "the body begins with a byte order mark; send JSON in UTF-8 without it";
        assert_eq!(with_mark(b"\xef\xbb\xbf"), expected);
        assert!(with_mark(b"\xff\xfe").starts_with("the body is UTF-16; send JSON in UTF-8"));
    }

    #[test]
    fn every_error_is_reported_with_its_place() {
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
    fn an_unknown_member_is_refused_by_name_before_and_after_the_rows() {
        let unknown = "is unknown; the body takes features or instances";
        for body in [
            r#"{"names":["a"],"features":[1]}"#,
            r#"{"features":[1],"names":["a"]}"#,
            r#"{"instances":[[1]],"names":{"a":[[[]]]}}"#,
            r#"{"names":null}"#,
        ] {
            assert_eq!(faults(body), [format!("names {unknown}")], "{body}");
        }
        assert_eq!(
            faults(r#"{"model":"iris","features":[1,"2"],"Instances":[]}"#),
            [
                format!("model {unknown}"),
                format!("Instances {unknown}"),
                "features.1 must be a number".to_owned()
            ]
        );
        let long = format!(r#"{{"features":[1],"{}\u001b[2J":1}}"#, "é".repeat(10_000));
        assert_eq!(faults(&long), [format!("{} {unknown}", "é".repeat(64))]);
        assert_eq!(faults("{\"\\u001b[2J\":1}"), [format!("\u{fffd}[2J {unknown}")]);
        let many: Vec<_> = (0..100_000).map(|number| format!(r#""m{number}":1"#)).collect();
        assert_eq!(faults(&format!("{{{}}}", many.join(","))).len(), FAULTS_MAX);
    }

    #[test]
    fn malformed_json_is_reported_with_line_and_column() {
        for body in ["{", r#"{"features":[1,"#, r#"{"features":[NaN]}"#, "not json", r#"{"features":[1]}x"#] {
            assert!(malformed(body).contains("line 1 column"), "{body}");
        }
        for twice in [
            r#"{"features":[1],"features":[2]}"#,
            r#"{"instances":null,"instances":[[2]]}"#,
            r#"{"features":null,"features":null}"#,
        ] {
            assert!(malformed(twice).contains("duplicate field"), "{twice}");
        }
        assert!(matches!(parse(b"{\"features\":[\xff]}"), Err(BodyError::Malformed(_))));
    }

    #[test]
    fn the_depth_and_number_of_errors_are_bounded() {
        let deep = format!(r#"{{"features":[{}{}]}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(faults(&deep), ["features.0 must be a number"]);
        let many = format!(r#"{{"features":[{}0]}}"#, "\"x\",".repeat(10_000));
        assert_eq!(faults(&many).len(), FAULTS_MAX);
    }

    #[test]
    fn a_body_that_the_gateway_accepts_is_within_the_limit_of_the_predictor_after_encoding() {
        let signs = ["", "-"];
        let digits = ["0", "1", "9", "12", "1.5"];
        let exponents = (-30..30).map(|exponent| format!("e{exponent}")).chain([String::new()]);
        for exponent in exponents {
            for text in signs.iter().flat_map(|sign| digits.map(|digits| format!("{sign}{digits}{exponent}")))
            {
                let number: f64 = text.parse().unwrap();
                let in_full = serde_json::to_string(&number).unwrap();
                // Each with the comma after it.
                let growth = (in_full.len() + 1) as f64 / (text.len() + 1) as f64;
                let allowed = (FORWARDED_MAX_BYTES / BODY_MAX_BYTES) as f64;
                assert!(growth <= allowed, "{text} becomes {in_full}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_is_unchanged_after_json(values in prop::collection::vec(prop::num::f64::NORMAL, 0..20)) {
            let body = serde_json::to_vec(&serde_json::json!({"features": values})).unwrap();
            prop_assert_eq!(parse(&body).unwrap(), Rows::single(values));
        }

        #[test]
        fn any_bytes_give_rows_or_an_error(body in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(parse(&body));
        }

        #[test]
        fn any_text_of_json_characters_gives_rows_or_an_error(body in r#"[\[\]{}",:a-f0-9eE.\- ]{0,40}"#) {
            drop(parse(format!(r#"{{"features":{body}}}"#).as_bytes()));
        }
    }

    #[test]
    fn frequent_causes_of_malformed_json_are_named() {
        for (body, expected) in [
            (&b""[..], "the body is empty; send a JSON object"),
            (b" \n", "the body is empty; send a JSON object"),
            (b"\x1f\x8b\x08\0", "the body is compressed by gzip; send JSON uncompressed"),
            (b"{\"features\":[1,NaN]}", "JSON has no NaN (line 1 column 16); values must be finite numbers"),
            (
                b"{\"features\":[\n1,-Infinity]}",
                "JSON has no -Infinity (line 2 column 4); values must be finite numbers",
            ),
            (b"{\"features\":[1,", "EOF while parsing a value at line 1 column 15"),
        ] {
            assert_eq!(parse(body), Err(BodyError::Malformed(expected.to_owned())), "{body:?}");
        }
    }
}
