//! The input and output of a model: named features with bounds, and classes. Checks rows against features.

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
            return if is_category { Ok(()) } else { Err(self.unknown_category(&value.to_string())) };
        }
        if self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max) {
            return Ok(());
        }
        let Self { name, min, max, .. } = self.clone();
        Err(Fault::OutOfBounds { feature: name, value, min, max })
    }

    /// The fault of a value that is none of the categories.
    pub(crate) fn unknown_category(&self, value: &str) -> Fault {
        let shown: Vec<_> =
            self.categories.iter().take(LISTED).map(|name| format!("\"{}\"", quotable(name))).collect();
        let more = self.categories.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let last = self.categories.len().saturating_sub(1);
        Fault::UnknownCategory { value: value.to_owned(), known: shown.join(", ") + &more, last }
    }
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

/// Checks each row against the features of a model.
pub fn check(rows: &Rows, features: &[Feature]) -> Result<(), Vec<FieldFault>> {
    let mut faults = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let one = [index];
        let (member, at): (_, &[usize]) =
            if rows.is_single() { ("features", &[]) } else { ("instances", &one) };
        if row.len() == features.len() {
            for (column, (&value, feature)) in row.iter().zip(features).enumerate() {
                if let Err(fault) = feature.check(value) {
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
