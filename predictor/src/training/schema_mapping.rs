//! The mapping between the order of the data's columns and classes and the order of the config's.

use std::collections::HashSet;

use canopy_contract::schema::{Class, Feature};
use canopy_forest::data::labels::whole;
use canopy_forest::data::samples::{ClassNames, Samples};
use canopy_forest::data::seen::{Names, Seen};
use canopy_forest::scale::{ScaleError, Scaler};

/// How the config and the data differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// The config lists a feature or class that the data does not have.
    #[error("{kind} {name} is not in the data, which has {found}")]
    NotFound {
        /// A feature or a class.
        kind: &'static str,
        /// Its name.
        name: Seen,
        /// The names in the data.
        found: Names,
    },
    /// The data has a feature or class that the config does not list.
    #[error("{kind} {name} of the data is not listed: list it, or remove it from the data")]
    NotListed {
        /// A feature or a class.
        kind: &'static str,
        /// Its name.
        name: Seen,
    },
    /// The config lists a feature or class twice.
    #[error("{kind} {name} is listed twice")]
    Twice {
        /// A feature or a class.
        kind: &'static str,
        /// Its name.
        name: Seen,
    },
    /// The number of names differs from the number of numbered classes.
    #[error("{named} classes are named, but the data has {found}, numbered from 0")]
    ClassCount {
        /// How many the config names.
        named: usize,
        /// How many the data has.
        found: usize,
    },
}

impl Disagreement {
    /// The same error without text of the data, for readers who may not be allowed to read the data.
    #[must_use]
    pub fn without_contents(mut self) -> Self {
        match &mut self {
            Self::NotFound { kind: _, name: _, found } => found.hide(),
            Self::NotListed { kind: _, name } => name.hide(),
            // The config names it.
            Self::Twice { .. } | Self::ClassCount { .. } => {}
        }
        self
    }
}

/// The column of the data for each feature, and the class of the data for each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrangement {
    features: Vec<Feature>,
    classes: Vec<Class>,
    /// By the index of a feature: its column.
    columns: Vec<usize>,
    /// By the index of a class: its index in the data.
    labels: Vec<usize>,
}

impl Arrangement {
    /// Compares the features and classes of the config with those of the data. An empty list in the config stands for all
    /// features or classes of the data, in their order.
    pub fn new(features: &[Feature], classes: &[String], data: &Samples) -> Result<Self, Disagreement> {
        let (features, columns) = if features.is_empty() {
            let named = data.features().iter().map(Feature::named).collect();
            (named, (0..data.features().len()).collect())
        } else {
            let names: Vec<_> = features.iter().map(|feature| feature.name.as_str()).collect();
            (features.to_vec(), places("feature", &names, data.features())?)
        };
        let (classes, labels) = arrange_classes(classes, data.classes())?;
        Ok(Self { features, classes, columns, labels })
    }

    /// The features in order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The classes in order.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// By the index of a feature: its column in the data.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// By the index of a class: its index in the data.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// A row of the data in the order of the model's features.
    pub fn row(&self, row: &[f64]) -> Vec<f64> {
        self.columns.iter().map(|&column| row[column]).collect()
    }

    /// The index in the model of a class of the data.
    pub fn class(&self, label: usize) -> usize {
        self.labels.iter().position(|&known| known == label).unwrap_or(label)
    }

    /// A scaler of the data's columns, reordered to the model's features.
    pub fn scaler(&self, scaler: &Scaler) -> Result<Scaler, ScaleError> {
        Scaler::new(self.row(scaler.offsets()), self.row(scaler.scales()))
    }
}

fn arrange_classes(names: &[String], found: &ClassNames) -> Result<(Vec<Class>, Vec<usize>), Disagreement> {
    let as_found = (0..found.len()).collect();
    let by_name = |names: &[String]| names.iter().cloned().map(Class::Name).collect();
    let texts: Vec<_> = names.iter().map(String::as_str).collect();
    match found {
        ClassNames::Named(found) if names.is_empty() => Ok((by_name(found), as_found)),
        ClassNames::Named(found) => Ok((by_name(names), places("class", &spelled(&texts, found), found)?)),
        ClassNames::Unnamed(count) if names.is_empty() => {
            Ok(((0..*count as u32).map(Class::Index).collect(), as_found))
        }
        ClassNames::Unnamed(count) => {
            let numbers: Vec<_> = (0..*count).map(|number| number.to_string()).collect();
            let spelled = spelled(&texts, &numbers);
            if spelled.iter().any(|name| numbers.iter().any(|number| number == name)) {
                return Ok((by_name(names), places("class", &spelled, &numbers)?));
            }
            // The names are for numbered classes: the first is the name of class 0.
            if names.len() != *count {
                return Err(Disagreement::ClassCount { named: names.len(), found: *count });
            }
            no_twice("class", &texts)?;
            Ok((by_name(names), as_found))
        }
    }
}

/// The names in the spelling of the data, which has no fraction of zeros: `7.0` becomes `7`.
fn spelled<'a>(names: &[&'a str], found: &[String]) -> Vec<&'a str> {
    let has = |name: &str| found.iter().any(|found| found == name);
    let spelled = |&name: &&'a str| match whole(name) {
        Some(number) if !has(name) && has(number) => number,
        Some(_) | None => name,
    };
    names.iter().map(spelled).collect()
}

/// The index in `found` of each of `names`; an error if the two are not the same set.
fn places(kind: &'static str, names: &[&str], found: &[String]) -> Result<Vec<usize>, Disagreement> {
    no_twice(kind, names)?;
    let place = |name: &&str| {
        let listed = || Names::new(found.iter().map(String::as_str));
        let not_found = || Disagreement::NotFound { kind, name: Seen::new(name), found: listed() };
        found.iter().position(|found| found == name).ok_or_else(not_found)
    };
    let places: Vec<_> = names.iter().map(place).collect::<Result<_, _>>()?;
    match found.iter().find(|found| !names.contains(&found.as_str())) {
        Some(name) => Err(Disagreement::NotListed { kind, name: Seen::new(name) }),
        None => Ok(places),
    }
}

fn no_twice(kind: &'static str, names: &[&str]) -> Result<(), Disagreement> {
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => Err(Disagreement::Twice { kind, name: Seen::new(name) }),
        None => Ok(()),
    }
}
