//! Faults in the fields of a prediction request, with their place in the body.
//!
//! A fault has no HTTP status: gateway and predictor respond with different ones.

use std::borrow::Cow;
use std::fmt;

/// The maximum number of reported faults: a body with a million faults must not get a larger response.
pub const FAULTS_MAX: usize = 20;

/// The maximum number of probabilities or values in one answer, where a row has several: some 5 MB of JSON.
pub const OUTPUTS_MAX: usize = 200_000;

/// The member for one row.
pub const FEATURES: &str = "features";
/// The member for several rows.
pub const INSTANCES: &str = "instances";
/// The member that requests the probabilities of all classes.
pub const PROBABILITIES: &str = "probabilities";

/// The maximum length of an unknown name that is repeated.
const NAME_MAX: usize = 64;

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyError {
    /// It is not JSON; the parser's words, with line and column.
    Malformed(String),
    /// It is JSON with faults: at least one, at most [`FAULTS_MAX`].
    Faults(Vec<FieldFault>),
}

/// Where in the body a fault is: `features`, `features.2`, `instances.3.2`, `instances.3.age`, or the body itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The member, or none where the body as a whole is at fault.
    pub member: Option<Cow<'static, str>>,
    /// The indices below it.
    pub indices: Vec<usize>,
    /// The name of the feature below them, where a row has names. It may be one that the client made up.
    pub name: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.member.as_deref().unwrap_or("body"))?;
        self.indices.iter().try_for_each(|index| write!(f, ".{index}"))?;
        self.name.as_deref().map_or(Ok(()), |name| write!(f, ".{name}"))
    }
}

/// The error at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The body is JSON, but not an object.
    NotAnObject,
    /// The member is missing.
    Missing,
    /// The member is unknown.
    UnknownMember,
    /// Both `features` and `instances` are given.
    BothGiven,
    /// There must be at least one row.
    NoRows,
    /// The value is not a list.
    NotAList,
    /// The row is neither a list nor an object.
    NotARow,
    /// The value is not a number.
    NotANumber,
    /// The value is neither true nor false.
    NotABoolean,
    /// The value is null, but the model takes no missing values for this feature.
    Null,
    /// The model has no feature of this name.
    UnknownFeature {
        /// The names that it has, at least the first of them.
        known: String,
    },
    /// The row by name leaves this feature out.
    MissingFeature {
        /// Whether it may be null.
        may_be_null: bool,
    },
    /// The row by name has this feature more than once.
    Repeated,
    /// The value is no category of its feature.
    UnknownCategory {
        /// The value given.
        value: String,
        /// The names of the categories, at least the first of them, and how many there are.
        known: String,
        /// The index of the last one, where a number may be an index.
        last: Option<usize>,
    },
    /// The value is a number that stands for several categories.
    AmbiguousCategory {
        /// The value given.
        value: f64,
    },
    /// The answer would have too many probabilities or values.
    TooManyOutputs {
        /// How many rows the request has.
        rows: usize,
        /// How many numbers the answer has for each row.
        outputs: usize,
    },
    /// Probabilities are requested from a model without classes.
    NoClasses,
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
            | Self::UnknownMember
            | Self::BothGiven
            | Self::NoRows
            | Self::NotAList
            | Self::NotARow
            | Self::NotANumber
            | Self::NotABoolean
            | Self::Null
            | Self::UnknownFeature { .. }
            | Self::MissingFeature { .. }
            | Self::Repeated => true,
            Self::NotFinite
            | Self::WrongLength { .. }
            | Self::OutOfBounds { .. }
            | Self::UnknownCategory { .. }
            | Self::AmbiguousCategory { .. }
            | Self::TooManyOutputs { .. }
            | Self::NoClasses => false,
        }
    }

    /// One word for the kind of fault, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotAnObject => "object_type",
            Self::Missing | Self::MissingFeature { .. } => "missing",
            Self::UnknownMember | Self::UnknownFeature { .. } => "extra_forbidden",
            Self::BothGiven => "both_given",
            Self::NoRows => "too_short",
            Self::NotAList | Self::NotARow => "list_type",
            Self::NotANumber | Self::Null => "number_type",
            Self::NotABoolean => "bool_type",
            Self::Repeated => "repeated",
            Self::UnknownCategory { .. } | Self::AmbiguousCategory { .. } => "enum",
            Self::TooManyOutputs { .. } => "too_long",
            Self::NoClasses => "no_classes",
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
            Self::UnknownMember => {
                f.write_str("is unknown; the body takes features or instances, and probabilities")
            }
            Self::BothGiven => f.write_str("must not be given together with features"),
            Self::NoRows => f.write_str("must have at least one row"),
            Self::NotAList => f.write_str("must be a list"),
            Self::NotARow => f.write_str("must be a list of values, or an object of values by feature"),
            Self::NotANumber => f.write_str("must be a number"),
            Self::NotABoolean => f.write_str("must be true or false"),
            Self::Null => f.write_str("must be a number: the model takes no missing values here"),
            Self::UnknownFeature { known } => write!(f, "is no feature of the model, which has {known}"),
            Self::Missing | Self::MissingFeature { may_be_null: false } => f.write_str("is required"),
            Self::MissingFeature { may_be_null: true } => {
                f.write_str("is required; send null if the value is missing")
            }
            Self::Repeated => f.write_str("is given more than once"),
            Self::UnknownCategory { value, known, last: Some(last) } => {
                write!(f, "must be one of {known}, or an index from 0 to {last}, but is {value}")
            }
            Self::UnknownCategory { value, known, last: None } => {
                write!(f, "must be one of {known}, but is {value}")
            }
            Self::AmbiguousCategory { value } => {
                write!(
                    f,
                    "is {value}, which stands for several categories: write the category's name in quotes"
                )
            }
            Self::TooManyOutputs { rows, outputs } => write!(
                f,
                "would give {outputs} numbers for each of {rows} rows; one answer has at most {OUTPUTS_MAX} numbers, so send \
                 fewer rows per request"
            ),
            Self::NoClasses => f.write_str("must be false or absent: the model has no classes"),
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
        Self { place: Place { member: Some(member.into()), indices: indices.to_vec(), name: None }, fault }
    }

    /// A fault of the feature `name` of the row at `indices` below the member `member`.
    pub fn named(member: &'static str, indices: &[usize], name: &str, fault: Fault) -> Self {
        let mut found = Self::at(member, indices, fault);
        found.place.name = Some(quotable(name));
        found
    }

    /// The fault of a member called `name`, which the body does not take.
    pub fn unknown_member(name: &str) -> Self {
        let member = Some(quotable(name).into());
        Self { place: Place { member, indices: Vec::new(), name: None }, fault: Fault::UnknownMember }
    }

    /// The place for a log line, without names that the client made up, because they may contain anything.
    pub fn place_to_log(&self) -> String {
        if self.fault == Fault::UnknownMember {
            return "a member that is not known".to_owned();
        }
        // The name of a feature may be one that the client made up.
        Place { name: None, ..self.place.clone() }.to_string()
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.fault)
    }
}

/// An unknown name as it may be repeated in errors and logs: truncated, without control characters.
pub fn quotable(name: &str) -> String {
    name.chars()
        .take(NAME_MAX)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}
