//! Parses the body of a prediction request: `{"features":…}` for one row, `{"instances":[…]}` for several, and
//! `"probabilities":true` for the probabilities of all classes.
//!
//! A row is a list of numbers in the order of the model's features, or an object with the value of each feature by its name.
//! A value is a number, `null` if it is missing, or the name of a category. Every fault is reported with its field.

mod cells;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::fault::{BodyError, FEATURES, FieldFault, INSTANCES, PROBABILITIES};
use crate::rows::Rows;
use crate::schema::{self, Feature};

/// The default limit of a body at a gateway.
pub const BODY_MAX_BYTES: usize = 2 << 20;
/// The default limit of a body at a predictor. A gateway passes numbers on as it read them,
/// in full: `1` as `1.0`, `1e15` as `1000000000000000.0`. That makes at most four bytes of one, and what a gateway took
/// must not be too long for the predictor behind it.
pub const FORWARDED_MAX_BYTES: usize = 4 * BODY_MAX_BYTES;

/// The body of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// At least one row.
    pub rows: BodyRows,
    /// Whether the answer has the probabilities of all classes.
    pub probabilities: bool,
}

/// The rows of a body. They are not checked against a model.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyRows {
    /// Numbers in the order of the features; a missing value is NaN.
    Numbers(Rows),
    /// Rows of which at least one has names.
    Named(NamedRows),
}

/// Rows with names of features or categories, as JSON. The features of a model make numbers of them.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedRows {
    body: Box<[u8]>,
    rows: usize,
    single: bool,
}

/// Reads a body. The common case, numbers only, is one pass without an allocation per value. Any other body is read a second
/// time, which finds names and faults.
pub fn parse(body: &[u8]) -> Result<Body, BodyError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = deserializer.deserialize_map(BodyVisitor).and_then(|read| deserializer.end().map(|()| read));
    match read {
        Ok((rows, probabilities)) if !rows.is_empty() => {
            Ok(Body { rows: BodyRows::Numbers(rows), probabilities })
        }
        Ok(_) | Err(_) => {
            let shape = cells::read(body, None)?;
            let (rows, single) = (shape.rows.len(), shape.rows.is_single());
            let named = NamedRows { body: body.into(), rows, single };
            Ok(Body { rows: BodyRows::Named(named), probabilities: shape.probabilities })
        }
    }
}

impl Body {
    /// Checks the rows, and returns them as numbers; a category is its index.
    pub fn into_rows(self, features: &[Feature]) -> Result<Rows, Vec<FieldFault>> {
        match self.rows {
            BodyRows::Numbers(rows) => schema::resolve(&rows, features).map(Cow::into_owned),
            BodyRows::Named(named) => named.resolve(features),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        match &self.rows {
            BodyRows::Numbers(rows) => rows.len(),
            BodyRows::Named(named) => named.rows,
        }
    }

    /// Whether there is no row, which [`parse`] refuses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the request had `features`: the answer then has one prediction instead of a list.
    pub fn is_single(&self) -> bool {
        match &self.rows {
            BodyRows::Numbers(rows) => rows.is_single(),
            BodyRows::Named(named) => named.single,
        }
    }
}

impl NamedRows {
    /// The body as the client sent it.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Checks the rows against the features of a model, and returns them as numbers in the order of the features.
    pub fn resolve(&self, features: &[Feature]) -> Result<Rows, Vec<FieldFault>> {
        match cells::read(&self.body, Some(features)) {
            Ok(read) => Ok(read.rows),
            Err(BodyError::Faults(faults)) => Err(faults),
            // The body was JSON when it was parsed.
            Err(BodyError::Malformed(_)) => Err(Vec::new()),
        }
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = (Rows, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with features or instances")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(Rows, bool), A::Error> {
        let (mut rows, mut probabilities): (Option<Rows>, Option<bool>) = (None, None);
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Features if rows.is_none() => {
                    let mut one = Rows::default();
                    map.next_value_seed(RowSeed(&mut one))?;
                    rows = Some(one.into_single());
                }
                Key::Instances if rows.is_none() => rows = Some(map.next_value_seed(RowsSeed)?),
                Key::Probabilities if probabilities.is_none() => probabilities = Some(map.next_value()?),
                Key::Features | Key::Instances | Key::Probabilities | Key::Other => {
                    return Err(A::Error::custom("a second member, or an unknown one"));
                }
            }
        }
        let rows = rows.ok_or_else(|| A::Error::missing_field(FEATURES))?;
        Ok((rows, probabilities.unwrap_or_default()))
    }
}

#[derive(PartialEq)]
enum Key {
    Features,
    Instances,
    Probabilities,
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
                    PROBABILITIES => Key::Probabilities,
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
        while let Some(value) = seq.next_element::<Option<f64>>()? {
            self.0.push(value.unwrap_or(f64::NAN));
        }
        self.0.end_row();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
