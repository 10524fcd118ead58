//! Reads a body whose values stay raw text until each is judged by itself: rows with names, and bodies with faults. Raw text is
//! skipped without recursion, so the depth of a body costs nothing.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::fault::{
    BodyError, FAULTS_MAX, FEATURES, Fault, FieldFault, INSTANCES, PROBABILITIES, Place, quotable,
};
use crate::malformed::malformed;
use crate::rows::Rows;
use crate::schema::{CategoryNumbers, Feature};

/// With more rows than this, names are looked up in a map, which is made once per request.
const SCANNED_ROWS: usize = 4;
/// How many names an error lists.
const LISTED: usize = 10;

/// What a body has.
pub(super) struct Read {
    /// The rows. Without features only their number is right, not their values.
    pub(super) rows: Rows,
    pub(super) probabilities: bool,
}

/// Reads a body. Without `features` only its shape is checked.
/// A member that is null counts as absent, as clients with typed bodies write it: the other one is then read alone.
pub(super) fn read(body: &[u8], features: Option<&[Feature]>) -> Result<Read, BodyError> {
    let whole: &RawValue = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        Err(error) => return Err(BodyError::Malformed(malformed(body, &error))),
    };
    if !whole.get().starts_with('{') {
        let place = Place { member: None, indices: Vec::new(), name: None };
        return Err(BodyError::Faults(vec![FieldFault { place, fault: Fault::NotAnObject }]));
    }
    let members: RawMembers<'_> = match serde_json::from_slice(body) {
        Ok(members) => members,
        Err(error) => return Err(BodyError::Malformed(error.to_string())),
    };
    let mut faults = members.unknown;
    let mut rows = Rows::default();
    match (members.features, members.instances) {
        // A member with another name is most likely meant to be one of these two.
        (None, None) if !faults.is_empty() => {}
        (None, None) => faults.push(FieldFault::at(FEATURES, &[], Fault::Missing)),
        (Some(_), Some(_)) => push(&mut faults, || FieldFault::at(INSTANCES, &[], Fault::BothGiven)),
        (Some(row), None) => {
            let mut reader = RowReader { columns: Columns::new(features, 1), rows, faults };
            reader.read(FEATURES, &[], row);
            (rows, faults) = (reader.rows.into_single(), reader.faults);
        }
        (None, Some(all)) => (rows, faults) = read_instances(all, features, faults),
    }
    let probabilities = match members.probabilities.map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            push(&mut faults, || FieldFault::at(PROBABILITIES, &[], Fault::NotABoolean));
            false
        }
    };
    if faults.is_empty() { Ok(Read { rows, probabilities }) } else { Err(BodyError::Faults(faults)) }
}

fn read_instances(
    all: &RawValue,
    features: Option<&[Feature]>,
    mut faults: Vec<FieldFault>,
) -> (Rows, Vec<FieldFault>) {
    let Ok(all) = serde_json::from_str::<Vec<&RawValue>>(all.get()) else {
        push(&mut faults, || FieldFault::at(INSTANCES, &[], Fault::NotAList));
        return (Rows::default(), faults);
    };
    if all.is_empty() {
        push(&mut faults, || FieldFault::at(INSTANCES, &[], Fault::NoRows));
    }
    let columns = Columns::new(features, all.len());
    let mut reader = RowReader { columns, rows: Rows::default(), faults };
    for (index, row) in all.into_iter().enumerate() {
        if reader.is_full() {
            break;
        }
        reader.read(INSTANCES, &[index], row);
    }
    (reader.rows, reader.faults)
}

/// The members of a body, each as raw text.
#[derive(Default)]
struct RawMembers<'a> {
    features: Option<&'a RawValue>,
    instances: Option<&'a RawValue>,
    probabilities: Option<&'a RawValue>,
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
        let mut seen = [false; 3];
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            let value: &RawValue = map.next_value()?;
            let (number, known, place) = match &*name {
                FEATURES => (0, FEATURES, &mut members.features),
                INSTANCES => (1, INSTANCES, &mut members.instances),
                PROBABILITIES => (2, PROBABILITIES, &mut members.probabilities),
                other => {
                    push(&mut members.unknown, || FieldFault::unknown_member(other));
                    continue;
                }
            };
            if std::mem::replace(&mut seen[number], true) {
                return Err(A::Error::duplicate_field(known));
            }
            *place = Some(value).filter(|value| value.get() != "null");
        }
        Ok(members)
    }
}

/// The features of a model by name, and their categories by name.
struct Columns<'a> {
    features: Option<&'a [Feature]>,
    /// Whether maps pay.
    is_mapped: bool,
    names: OnceCell<HashMap<&'a str, usize>>,
    categories: Vec<OnceCell<HashMap<&'a str, usize>>>,
    numbers: Vec<OnceCell<CategoryNumbers<'a>>>,
}

fn map<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names.enumerate().map(|(index, name)| (name, index)).collect()
}

impl<'a> Columns<'a> {
    fn new(features: Option<&'a [Feature]>, rows: usize) -> Self {
        let is_mapped = rows > SCANNED_ROWS;
        let cells = if is_mapped { features.map_or(0, <[Feature]>::len) } else { 0 };
        let categories = (0..cells).map(|_| OnceCell::new()).collect();
        let numbers = (0..features.map_or(0, <[Feature]>::len)).map(|_| OnceCell::new()).collect();
        Self { features, is_mapped, names: OnceCell::new(), categories, numbers }
    }

    /// The index of the feature `name`; most likely it is `next`.
    fn index_of(&self, features: &'a [Feature], name: &str, next: usize) -> Option<usize> {
        if features.get(next).is_some_and(|feature| feature.name == name) {
            return Some(next);
        }
        let names = || features.iter().map(|feature| feature.name.as_str());
        self.names.get_or_init(|| map(names())).get(name).copied()
    }

    /// The number in the column of `feature`, which is the index of its category where it has categories.
    fn number(&self, feature: &'a Feature, column: usize, number: f64) -> Result<f64, Fault> {
        match self.numbers.get(column) {
            Some(cell) if !feature.categories.is_empty() => {
                cell.get_or_init(|| CategoryNumbers::new(feature)).index(number)
            }
            _ => feature.check(number).map(|()| number),
        }
    }

    /// The index of the category `name` of the feature at `column`.
    fn category(&self, feature: &'a Feature, column: usize, name: &str) -> Option<usize> {
        let names = || feature.categories.iter().map(String::as_str);
        match self.categories.get(column) {
            Some(cell) if self.is_mapped => cell.get_or_init(|| map(names())).get(name).copied(),
            _ => names().position(|category| category == name),
        }
    }
}

/// Reads rows one after the other, and collects faults.
struct RowReader<'a> {
    columns: Columns<'a>,
    rows: Rows,
    faults: Vec<FieldFault>,
}

impl<'a> RowReader<'a> {
    fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    fn read(&mut self, member: &'static str, at: &[usize], row: &RawValue) {
        let text = row.get();
        if text.starts_with('{') {
            match serde_json::from_str::<NamedCells<'_>>(text) {
                Ok(NamedCells(cells)) => self.read_named(member, at, &cells),
                // The text is JSON, so this cannot happen; a fault is safer than a row that is left out.
                Err(_) => push(&mut self.faults, || FieldFault::at(member, at, Fault::NotARow)),
            }
        } else {
            match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(cells) => self.read_listed(member, at, &cells),
                Err(_) => push(&mut self.faults, || FieldFault::at(member, at, Fault::NotARow)),
            }
        }
        self.rows.end_row();
    }

    fn read_listed(&mut self, member: &'static str, at: &[usize], cells: &[&RawValue]) {
        if let Some(features) = self.columns.features
            && features.len() != cells.len()
        {
            let fault = Fault::WrongLength { expected: features.len(), found: cells.len() };
            push(&mut self.faults, || FieldFault::at(member, at, fault));
        }
        for (column, cell) in cells.iter().enumerate() {
            if self.is_full() {
                return;
            }
            match self.value(column, cell.get()) {
                Ok(value) => self.rows.push(value),
                Err(fault) => {
                    push(&mut self.faults, || FieldFault::at(member, &[at, &[column]].concat(), fault));
                }
            }
        }
    }

    fn read_named(&mut self, member: &'static str, at: &[usize], cells: &[(Cow<'_, str>, &RawValue)]) {
        let Some(features) = self.columns.features else {
            for (name, cell) in cells {
                if let Err(fault) = self.value(0, cell.get()) {
                    push(&mut self.faults, || FieldFault::named(member, at, name, fault));
                }
            }
            return;
        };
        // A row that leaves features out has a fault, so a short body cannot make many long rows.
        let mut row: Vec<Option<f64>> = vec![None; features.len()];
        let mut next = 0;
        for (name, cell) in cells {
            if self.is_full() {
                return;
            }
            let Some(column) = self.columns.index_of(features, name, next) else {
                let fault = Fault::UnknownFeature { known: known(features) };
                push(&mut self.faults, || FieldFault::named(member, at, name, fault));
                continue;
            };
            next = column + 1;
            let (value, fault) = match self.value(column, cell.get()) {
                _ if row[column].is_some() => (0.0, Some(Fault::Repeated)),
                Ok(value) => (value, None),
                Err(fault) => (0.0, Some(fault)),
            };
            row[column] = Some(value);
            if let Some(fault) = fault {
                push(&mut self.faults, || FieldFault::named(member, at, name, fault));
            }
        }
        for (feature, value) in features.iter().zip(row) {
            if self.is_full() {
                return;
            }
            if let Some(value) = value {
                self.rows.push(value);
            } else {
                let fault = Fault::MissingFeature { may_be_null: feature.missing };
                push(&mut self.faults, || FieldFault::named(member, at, &feature.name, fault));
            }
        }
    }

    /// The number of a cell in the given column.
    fn value(&self, column: usize, text: &str) -> Result<f64, Fault> {
        let feature = self.columns.features.and_then(|features| features.get(column));
        let value = match text.as_bytes().first() {
            Some(b'n') => f64::NAN,
            Some(b'"') => {
                return feature.map_or(Ok(f64::NAN), |feature| self.category(feature, column, text));
            }
            Some(b'-' | b'0'..=b'9') => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => number,
                Ok(_) | Err(_) => return Err(Fault::NotFinite),
            },
            Some(_) | None => return Err(Fault::NotANumber),
        };
        match feature {
            Some(feature) => self.columns.number(feature, column, value),
            None => Ok(value),
        }
    }

    fn category(&self, feature: &'a Feature, column: usize, text: &str) -> Result<f64, Fault> {
        if feature.categories.is_empty() {
            return Err(Fault::NotANumber);
        }
        let name: Cow<'_, str> = serde_json::from_str::<Text<'_>>(text).map_err(|_| Fault::NotANumber)?.0;
        let index = self.columns.category(feature, column, &name);
        index.map(|index| index as f64).ok_or_else(|| {
            let has_indices = CategoryNumbers::new(feature).has_indices();
            feature.unknown_category(&format!("\"{}\"", quotable(&name)), has_indices)
        })
    }
}

/// The first features of a model, for an error.
fn known(features: &[Feature]) -> String {
    let names: Vec<_> = features.iter().take(LISTED).map(|feature| quotable(&feature.name)).collect();
    let more = if features.len() > LISTED {
        format!(" and {} more", features.len() - LISTED)
    } else {
        String::new()
    };
    names.join(", ") + &more
}

/// A text that is borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The cells of a row by name, also repeated ones.
struct NamedCells<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for NamedCells<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellsVisitor;
        impl<'de> Visitor<'de> for CellsVisitor {
            type Value = NamedCells<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a value for each feature")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedCells<'de>, A::Error> {
                let mut cells = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    cells.push((name, value));
                }
                Ok(NamedCells(cells))
            }
        }
        deserializer.deserialize_map(CellsVisitor)
    }
}

fn push(faults: &mut Vec<FieldFault>, fault: impl FnOnce() -> FieldFault) {
    if faults.len() < FAULTS_MAX {
        faults.push(fault());
    }
}
