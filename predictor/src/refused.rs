//! A refusal of the data in two texts: in full for the owner of the data, and without their contents.
//!
//! The second is what a report, a log and a status have: people read those who may not read the data. It says the
//! line, the column by its number, and the kind of the fault; of names it has only those of the spec.

use std::error::Error as _;

use canopy_contract::code::Code;
use canopy_contract::report::Refusal;
use canopy_forest::data::DataError;
use canopy_forest::scale::ScaleError;
use canopy_forest::train::TrainError;
use csv::{ReaderBuilder, Trim};

use crate::arrangement::Disagreement;

/// Why there will be no model for a config and its data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", full.code, full.message)]
pub struct Refused {
    /// In full, with names and cells of the data.
    pub full: Refusal,
    /// Without them.
    pub told: Refusal,
}

impl Refused {
    /// A refusal whose message has nothing of the data.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let told = Refusal::new(code, message);
        Self { full: told.clone(), told }
    }

    /// A refusal of the data in both texts.
    fn of_data(full: impl Into<String>, told: Option<String>) -> Self {
        let refused = Self::new(Code::DataInvalid, full);
        match told {
            Some(told) => Self { told: Refusal::new(Code::DataInvalid, told), ..refused },
            None => refused,
        }
    }

    /// A fault of a table.
    pub fn of_table(error: &DataError, table: &[u8]) -> Self {
        let full = error.to_string();
        let place = |row: &usize, line: &u64| format!("row {row} (line {line})");
        let column = |name: &str| match position(table, name) {
            Some(position) => format!("column {position}"),
            None => "a column".to_owned(),
        };
        let told = match error {
            // These have a number at the most, or the name of the target, which is the spec's.
            DataError::NotUtf8 { .. }
            | DataError::NoHeader
            | DataError::UnnamedColumn { .. }
            | DataError::NoFeatures { .. }
            | DataError::NoRows
            | DataError::TooManyRows
            | DataError::TooManyClasses { .. }
            | DataError::TooFewFeatures { .. }
            | DataError::Unsplittable { .. } => return Self::of_data(full, None),
            DataError::DuplicateColumn { .. } => {
                "two columns of the header have one name: give each column a name of its own".to_owned()
            }
            DataError::NoTarget { target, .. } => {
                format!("target column {target} is not in the header: name one that is")
            }
            DataError::Ragged { row, line, .. } => {
                format!("{} has another number of cells than the header", place(row, line))
            }
            DataError::EmptyCell { row, line, column: name } => format!(
                "{} has nothing in {}: give a value or leave the row out",
                place(row, line),
                column(name)
            ),
            DataError::NotANumber { row, line, column: name, .. } => {
                format!("{} {} must be a number", place(row, line), column(name))
            }
            DataError::NotFinite { row, line, column: name, .. } => {
                format!("{} {} must be a finite number", place(row, line), column(name))
            }
            DataError::OneClass { .. } => {
                "all rows have the same class: a classifier needs at least two".to_owned()
            }
        };
        Self::of_data(full, Some(told))
    }
}

impl From<DataError> for Refused {
    fn from(error: DataError) -> Self {
        Self::of_table(&error, &[])
    }
}

impl From<Disagreement> for Refused {
    fn from(error: Disagreement) -> Self {
        let told = match &error {
            Disagreement::NotFound { kind, name, found: _ } => {
                Some(format!("{kind} {name} is not in the data"))
            }
            Disagreement::NotListed { kind, name: _ } => {
                Some(format!("a {kind} of the data is not listed: list it, or take it out of the data"))
            }
            Disagreement::ClassCount { named, found: _ } => {
                Some(format!("{named} classes are named, but the data has another number of them"))
            }
            Disagreement::Twice { .. } => None,
        };
        Self::of_data(error.to_string(), told)
    }
}

impl From<ScaleError> for Refused {
    fn from(error: ScaleError) -> Self {
        let told = matches!(error, ScaleError::TooLarge { .. })
            .then(|| "a column cannot be standardised: its values are too large or too far apart".to_owned());
        Self::of_data(error.to_string(), told)
    }
}

impl From<TrainError> for Refused {
    fn from(error: TrainError) -> Self {
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        let told = match &error {
            TrainError::NotFinite { row, .. } => Some(format!(
                "row {row} has a value that is no finite 32-bit number: standardise, or scale its column"
            )),
            TrainError::Linfa(_) => Some(error.to_string()),
            TrainError::Parameter { .. }
            | TrainError::NoRows
            | TrainError::NoFeatures
            | TrainError::OneClass
            | TrainError::TooManyRows { .. }
            | TrainError::TooManyClasses { .. }
            | TrainError::Weighted
            | TrainError::AlwaysBootstraps
            | TrainError::Model(_) => None,
        };
        Self::of_data(format!("{error}{cause}"), told)
    }
}

/// The number, from 1, of the column that an error names, which may have cut its name.
fn position(table: &[u8], name: &str) -> Option<usize> {
    let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(table);
    let header = reader.headers().ok()?;
    let is_named = |column: &str| {
        column == name || name.strip_suffix('…').is_some_and(|start| column.starts_with(start))
    };
    let mut found = header.iter().enumerate().filter(|(_, column)| is_named(column));
    let (index, _) = found.next()?;
    found.next().is_none().then_some(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_forest::data::Samples;

    /// A word of the data that no text for others may have.
    const SECRET: &str = "s3cret";

    #[track_caller]
    fn check(table: &str, expected: &str) {
        let error = Samples::from_csv(table.as_bytes(), "class").unwrap_err();
        let Refused { full, told } = Refused::of_table(&error, table.as_bytes());
        assert_eq!((told.code.as_str(), told.message.as_str()), ("data_invalid", expected));
        assert!(!format!("{told:?}").contains(SECRET), "{told:?}");
        assert_eq!(full.message, error.to_string());
    }

    #[test]
    fn a_fault_of_a_table_is_told_by_its_place_and_kind() {
        check(
            "a,s3cret,s3cret,class\n",
            "two columns of the header have one name: give each column a name of its own",
        );
        check("s3cret,b\n1,2\n", "target column class is not in the header: name one that is");
        check("a,s3cret,class\n1,2\n", "row 1 (line 2) has another number of cells than the header");
        check(
            "a,s3cret,class\n1,,x\n",
            "row 1 (line 2) has nothing in column 2: give a value or leave the row out",
        );
        check("a,s3cret,class\n1,s3cret,x\n", "row 1 (line 2) column 2 must be a number");
        check("a,s3cret,class\n\n1,inf,x\n", "row 1 (line 3) column 2 must be a finite number");
        check("a,class\n1,s3cret\n", "all rows have the same class: a classifier needs at least two");
        check(
            "class\ns3cret\nx\n",
            "data has no feature: beside the target column class it needs at least one more",
        );
        let long = format!("a,{SECRET}{},class\n1,x,y\n", "é".repeat(90));
        check(&long, "row 1 (line 2) column 2 must be a number");
    }

    #[test]
    fn names_of_the_data_are_told_only_where_the_spec_has_them() {
        let secret = || SECRET.to_owned();
        for (refused, expected) in [
            (
                Disagreement::NotFound { kind: "feature", name: "age".to_owned(), found: secret() }.into(),
                "feature age is not in the data",
            ),
            (
                Disagreement::NotListed { kind: "class", name: secret() }.into(),
                "a class of the data is not listed: list it, or take it out of the data",
            ),
            (
                ScaleError::TooLarge { feature: secret() }.into(),
                "a column cannot be standardised: its values are too large or too far apart",
            ),
            (
                TrainError::NotFinite { row: 7, feature: secret() }.into(),
                "row 7 has a value that is no finite 32-bit number: standardise, or scale its column",
            ),
        ] {
            let Refused { full, told } = refused;
            assert_eq!(told.message, expected);
            assert!(full.message.contains(SECRET), "{full:?}");
        }
    }
}
