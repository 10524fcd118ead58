//! The input and output of a model: named features with bounds, and classes. Checks rows against features.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fault::{FAULTS_MAX, Fault, FieldFault, quotable};
use crate::rows::Rows;

/// How many categories an error lists.
const LISTED: usize = 10;

/// One column of a model's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The lowest value it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest value it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Whether the value may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// The names of the categories by index; empty for a number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl Feature {
    /// A feature without bounds.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), min: None, max: None, missing: false, categories: Vec::new() }
    }

    /// The name of the category with this index.
    #[expect(clippy::cast_sign_loss, reason = "the range is checked")]
    pub fn category(&self, index: f64) -> Option<&str> {
        let is_index = (0.0..self.categories.len() as f64).contains(&index);
        is_index.then(|| self.categories[index as usize].as_str())
    }

    /// Checks one value. A missing value is NaN, and a category is its index.
    pub fn check(&self, value: f64) -> Result<(), Fault> {
        if value.is_nan() {
            return if self.missing { Ok(()) } else { Err(Fault::Null) };
        }
        if !value.is_finite() {
            return Err(Fault::NotFinite);
        }
        if !self.categories.is_empty() {
            let is_category = value >= 0.0 && value < self.categories.len() as f64 && value.fract() == 0.0;
            return if is_category { Ok(()) } else { Err(self.unknown_category(&value.to_string(), true)) };
        }
        if self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max) {
            return Ok(());
        }
        let Self { name, min, max, .. } = self.clone();
        Err(Fault::OutOfBounds { feature: name, value, min, max })
    }

    /// The fault of a value that is not a category. `has_indices` is whether a number may be an index.
    pub(crate) fn unknown_category(&self, value: &str, has_indices: bool) -> Fault {
        let shown: Vec<_> =
            self.categories.iter().take(LISTED).map(|name| format!("\"{}\"", quotable(name))).collect();
        let more = self.categories.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let last = has_indices.then(|| self.categories.len().saturating_sub(1));
        Fault::UnknownCategory { value: value.to_owned(), known: shown.join(", ") + &more, last }
    }
}

/// The categories of a feature by the numbers that stand for them in requests and tables.
///
/// If all names are numbers, a number is always a name. If some are, it is a name or an index, if only one of these exists or
/// both are the same category. If none is, it is an index.
#[derive(Debug)]
pub struct CategoryNumbers<'a> {
    feature: &'a Feature,
    /// The index by the bits of the number; `None` if several names are this number.
    named: HashMap<u64, Option<usize>>,
    has_indices: bool,
}

impl<'a> CategoryNumbers<'a> {
    /// The numbers of the categories of `feature`.
    pub fn new(feature: &'a Feature) -> Self {
        let (mut named, mut numbers) = (HashMap::new(), 0);
        for (index, name) in feature.categories.iter().enumerate() {
            if let Some(number) = number_of(name) {
                numbers += 1;
                named.entry(number.to_bits()).and_modify(|known| *known = None).or_insert(Some(index));
            }
        }
        Self { feature, named, has_indices: numbers < feature.categories.len() || numbers == 0 }
    }

    /// Whether a number may be a name.
    pub fn has_names(&self) -> bool {
        !self.named.is_empty()
    }

    /// Whether a number may be an index.
    pub(crate) fn has_indices(&self) -> bool {
        self.has_indices
    }

    /// Checks a number that a client sent, and returns the index of its category. Without categories, and for a missing value,
    /// it is the number itself.
    pub fn index(&self, number: f64) -> Result<f64, Fault> {
        if number.is_nan() || self.named.is_empty() {
            return self.feature.check(number).map(|()| number);
        }
        // The sum makes 0 of -0.
        let number = number + 0.0;
        let named = self.named.get(&number.to_bits());
        let index = (self.has_indices && self.feature.check(number).is_ok()).then_some(number);
        match (named, index) {
            (Some(Some(name)), None) => Ok(*name as f64),
            (Some(Some(name)), Some(index)) if (*name as f64).to_bits() == index.to_bits() => Ok(index),
            (Some(_), _) => Err(Fault::AmbiguousCategory { value: number }),
            (None, Some(index)) => Ok(index),
            (None, None) => Err(self.feature.unknown_category(&number.to_string(), self.has_indices)),
        }
    }
}

/// The number that a name is.
fn number_of(name: &str) -> Option<f64> {
    let may_be = name.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    let number: f64 = if may_be { name.parse().ok()? } else { return None };
    number.is_finite().then_some(number + 0.0)
}

/// One answer a classifier can give: a name where the model has names, else its index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Class {
    /// A class without a name.
    Index(u32),
    /// A class with a name.
    Name(String),
}

impl Class {
    /// The name, if the class has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Index(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

/// Checks rows that a client sent, and returns them with the indices of categories.
pub fn resolve<'r>(rows: &'r Rows, features: &[Feature]) -> Result<Cow<'r, Rows>, Vec<FieldFault>> {
    if features.iter().all(|feature| feature.categories.is_empty()) {
        return check(rows, features).map(|()| Cow::Borrowed(rows));
    }
    let numbers: Vec<_> = features.iter().map(CategoryNumbers::new).collect();
    if !numbers.iter().any(CategoryNumbers::has_names) {
        return check(rows, features).map(|()| Cow::Borrowed(rows));
    }
    let mut indexed = rows.clone();
    let mut values = indexed.values_mut().iter_mut();
    check_with(rows, features, |column, value| {
        let index = numbers[column].index(value);
        if let (Some(place), Ok(index)) = (values.next(), &index) {
            *place = *index;
        }
        index.map(drop)
    })?;
    Ok(Cow::Owned(indexed))
}

/// Checks each row against the features of a model. Categories are indices.
pub fn check(rows: &Rows, features: &[Feature]) -> Result<(), Vec<FieldFault>> {
    check_with(rows, features, |column, value| features[column].check(value))
}

fn check_with(
    rows: &Rows,
    features: &[Feature],
    mut check: impl FnMut(usize, f64) -> Result<(), Fault>,
) -> Result<(), Vec<FieldFault>> {
    let mut faults = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let one = [index];
        let (member, at): (_, &[usize]) =
            if rows.is_single() { ("features", &[]) } else { ("instances", &one) };
        if row.len() == features.len() {
            for (column, &value) in row.iter().enumerate() {
                if let Err(fault) = check(column, value) {
                    faults.push(FieldFault::at(member, &[at, &[column]].concat(), fault));
                }
            }
        } else {
            let fault = Fault::WrongLength { expected: features.len(), found: row.len() };
            faults.push(FieldFault::at(member, at, fault));
        }
        if faults.len() >= FAULTS_MAX {
            faults.truncate(FAULTS_MAX);
            break;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_rows(rows: &Rows) -> Vec<String> {
        let bounded = Feature { min: Some(0.0), max: Some(150.0), ..Feature::named("age") };
        let open = Feature { min: Some(0.0), ..Feature::named("income") };
        match check(rows, &[bounded, open]) {
            Ok(()) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_row_must_have_one_value_per_feature_within_its_bounds() {
        assert!(check_rows(&Rows::single(vec![150.0, 0.0])).is_empty());
        assert_eq!(
            check_rows(&Rows::single(vec![1.0])),
            ["features must have 2 values, one per feature of the model, but has 1"]
        );
        assert_eq!(
            check_rows(&Rows::single(vec![151.0, f64::NAN])),
            [
                "features.0 age must be between 0 and 150, but is 151",
                "features.1 must be a number: the model takes no missing values here"
            ]
        );
        assert_eq!(
            check_rows(&Rows::instances([[1.0, 1.0], [1.0, -0.5]])),
            ["instances.1.1 income must be at least 0, but is -0.5"]
        );
    }

    #[test]
    fn the_number_of_errors_is_bounded() {
        assert_eq!(check_rows(&Rows::instances(vec![[-1.0, -1.0]; 1000])).len(), FAULTS_MAX);
    }
}
