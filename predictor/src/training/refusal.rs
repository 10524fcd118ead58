//! A refusal of the data in two texts: in full for the owner of the data, and without their contents.
//!
//! Reports, logs and the status use the second text, because their readers may not be allowed to read the data. It has the
//! line, the number of the column, and the kind of error; its only names are those of the spec.

use std::error::Error as _;

use canopy_contract::code::Code;
use canopy_contract::report::Refusal;
use canopy_forest::data::error::DataError;
use canopy_forest::scale::ScaleError;
use canopy_forest::train::parameters::TrainError;

use crate::engine::training::TrainingError;
use crate::training::labelled::TableError;
use crate::training::schema_mapping::Disagreement;

/// Why a config or its data are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", full.code, full.message)]
pub struct Refused {
    /// The full text, with names and cells of the data.
    pub full: Refusal,
    /// The text without names and cells of the data.
    pub told: Refusal,
}

impl Refused {
    /// A refusal whose message contains no values of the data.
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
}

impl From<DataError> for Refused {
    fn from(error: DataError) -> Self {
        Self::of_data(error.to_string(), Some(error.without_contents().to_string()))
    }
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        Self::of_data(error.to_string(), Some(error.without_contents()))
    }
}

impl From<Disagreement> for Refused {
    fn from(error: Disagreement) -> Self {
        Self::of_data(error.to_string(), Some(error.without_contents().to_string()))
    }
}

impl From<ScaleError> for Refused {
    fn from(error: ScaleError) -> Self {
        let told = matches!(error, ScaleError::TooLarge { .. })
            .then(|| "a column cannot be standardised: its values are too large or too far apart".to_owned());
        Self::of_data(error.to_string(), told)
    }
}

impl From<TrainingError> for Refused {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::Scale(error) => error.into(),
            TrainingError::Train(error) => error.into(),
        }
    }
}

impl From<TrainError> for Refused {
    fn from(error: TrainError) -> Self {
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        let told = match &error {
            TrainError::NotFinite { row, .. } => Some(format!(
                "row {row} has a value that is not a finite 32-bit float: standardise the features, or scale the column"
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

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_contract::schema::Feature;
    use canopy_forest::data::samples::Samples;

    use crate::training::schema_mapping::Arrangement;

    /// A value of the data that must not appear in reports, logs or the status.
    const SECRET: &str = "s3cret";

    #[track_caller]
    fn check(table: &str, expected: &str) {
        let error = Samples::from_csv(table.as_bytes(), "class").unwrap_err();
        let full = error.to_string();
        let refused = Refused::from(error);
        assert_eq!((refused.told.code.as_str(), refused.told.message.as_str()), ("data_invalid", expected));
        assert!(!format!("{:?}", refused.told).contains(SECRET), "{:?}", refused.told);
        assert_eq!(refused.full.message, full);
    }

    #[test]
    fn an_error_in_a_table_is_reported_by_its_place_and_kind() {
        check("a,s3cret,class\n1,s3cret,x\n", "row 1 (line 2) column 2 must be a number, but is (not shown)");
    }

    #[test]
    fn names_of_the_data_are_reported_only_if_the_spec_has_them() {
        let data = Samples::from_csv(b"a,s3cret,class\n1,2,x\n3,4,y\n", "class").unwrap();
        let unlisted = [Feature::named("a")];
        let refused = Refused::from(Arrangement::new(&unlisted, &[], &data).unwrap_err());
        assert!(refused.full.message.contains(SECRET), "{refused:?}");
        assert!(!refused.told.message.contains(SECRET), "{refused:?}");
        let secret = || SECRET.to_owned();
        for (refused, expected) in [
            (
                ScaleError::TooLarge { feature: secret() }.into(),
                "a column cannot be standardised: its values are too large or too far apart",
            ),
            (
                TrainError::NotFinite { row: 7, feature: secret() }.into(),
                "row 7 has a value that is not a finite 32-bit float: standardise the features, or scale the column",
            ),
        ] {
            let Refused { full, told } = refused;
            assert_eq!(told.message, expected);
            assert!(full.message.contains(SECRET), "{full:?}");
        }
    }
}
