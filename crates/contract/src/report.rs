//! The report of `prepare`: a prepared model, a refusal, or a failure that may be retried.
//!
//! It is JSON of at most 4 KiB, the size of a container's termination message, and has no rows of the training data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::describe::Quality;

/// The most bytes a report may have.
pub const REPORT_MAX_BYTES: usize = 4096;

/// How a preparation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// There is a model.
    Prepared(Prepared),
    /// There is no model, and another attempt with the same spec and data would fail as well.
    Refused(Refusal),
    /// There is no model, but another attempt may succeed.
    Failed(Refusal),
}

/// A model that was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// The SHA-256 of the artifact, in hexadecimal.
    pub digest: String,
    /// The size of the artifact.
    pub bytes: u64,
    /// The quality of the model on rows that it was not trained on. A model from a file that is not evaluated has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// The number of rows it was trained on; 0 for a model from a file.
    pub samples: usize,
    /// How long it took.
    pub seconds: f64,
    /// What people should look at, though it is no reason to refuse the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The most warnings of one preparation: a report with as many keeps within its limit.
pub const WARNINGS_MAX: usize = 8;

/// How many characters of a name a warning has.
const WARNING_NAME_MAX: usize = 40;

/// A property of the data with which a model is often worse on new rows than on the held-out rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// The kind of the warning.
    pub kind: WarningKind,
    /// The column or the class, cut where the name is long. It comes from the data.
    pub name: String,
    /// How many rows or classes it is about.
    pub count: usize,
    /// Example values of the data, limited in length. Only the owner of the data may see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// The kinds of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarningKind {
    /// A feature has a different whole number in each row, and is called or ordered like an id.
    LooksLikeAnId,
    /// The classes are many different numbers.
    LooksLikeAQuantity,
    /// No row of a class was held out, so nothing is known of how well it is found.
    ClassNotJudged,
    /// Different values of a feature are equal as floating-point numbers: as the 64-bit ones that they are read as, or as
    /// the 32-bit ones that a forest compares.
    ValuesMadeEqual,
}

impl Warning {
    /// A warning about the column or class `name`.
    pub fn new(kind: WarningKind, name: &str, count: usize) -> Self {
        Self { kind, name: cut(name, WARNING_NAME_MAX), count, example: None }
    }

    /// The same warning with an example from the data.
    #[must_use]
    pub fn with_example(self, example: &str) -> Self {
        Self { example: Some(cut(example, 2 * WARNING_NAME_MAX)), ..self }
    }
}

/// The text, cut where it has more than `characters`.
fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, count, example } = self;
        let example =
            example.as_ref().map_or_else(String::new, |example| format!(" (for example {example})"));
        match kind {
            WarningKind::LooksLikeAnId => write!(
                f,
                "column {name:?} has a different whole number in each of {count} rows, so it looks like an id: its \
                 values do not carry over to new rows; remove it from the data"
            ),
            WarningKind::LooksLikeAQuantity => write!(
                f,
                "the target {name:?} has {count} different numbers, so it looks like a quantity: each number is trained \
                 as a class of its own; list the numbers under classes if they are classes"
            ),
            WarningKind::ClassNotJudged => write!(
                f,
                "class {name:?} was not evaluated: it has {count} row, so none could be held out, and \
                 the quality does not include it"
            ),
            WarningKind::ValuesMadeEqual => write!(
                f,
                "column {name:?} has different values that are equal as floating-point numbers, in {count} \
                 rows{example}: the model cannot tell them apart; subtract a constant from the column, round it to \
                 fewer digits, or remove it if it is an id"
            ),
        }
    }
}

/// Why there is no model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, one word of [`Code`].
    pub code: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal for the reason `code`; a long message is cut so that the report keeps within its limit.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // JSON spends at most six bytes on a character, and the limit must hold for any.
        if let Some((cut, _)) = message.char_indices().nth(600) {
            message.truncate(cut);
            message.push('…');
        }
        Self { code: code.as_str().to_owned(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::Metric;

    #[test]
    fn a_report_with_all_warnings_and_any_names_is_within_the_limit() {
        for name in ["\u{1}", "\u{1f333}", "\"", "a"] {
            let warning = Warning::new(WarningKind::LooksLikeAQuantity, &name.repeat(5000), usize::MAX);
            let report = Report::Prepared(Prepared {
                digest: "f".repeat(64),
                bytes: u64::MAX,
                quality: Some(Quality {
                    metric: Metric::RootMeanSquaredError,
                    value: 1.0 / 3.0,
                    samples: usize::MAX,
                }),
                samples: usize::MAX,
                seconds: 1.0 / 3.0,
                warnings: vec![warning.with_example(&"8".repeat(100)); WARNINGS_MAX],
            });
            let json = serde_json::to_vec(&report).unwrap();
            assert!(json.len() <= REPORT_MAX_BYTES, "{name:?} gives {} bytes", json.len());
        }
    }

    #[test]
    fn a_report_of_an_earlier_version_has_no_warnings() {
        let json = r#"{"prepared":{"digest":"f","bytes":1,"quality":{"metric":"Accuracy","value":1.0,"samples":1},
            "samples":1,"seconds":1.0}}"#;
        let report: Report = serde_json::from_str(json).unwrap();
        assert!(matches!(report, Report::Prepared(Prepared { warnings, .. }) if warnings.is_empty()));
    }

    #[test]
    fn a_warning_shows_control_characters_escaped() {
        let warning = Warning::new(WarningKind::ClassNotJudged, "a\u{1b}", 1);
        assert_eq!(
            warning.to_string(),
            "class \"a\\u{1b}\" was not evaluated: it has 1 row, so none could be held out, and the quality \
             does not include it"
        );
    }

    #[test]
    fn a_refusal_with_any_message_is_within_the_limit() {
        for message in ["\u{1}", "\u{1f333}", "\"", "a"] {
            let report = Report::Refused(Refusal::new(Code::DataInvalid, message.repeat(5000)));
            let json = serde_json::to_vec(&report).unwrap();
            assert!(json.len() <= REPORT_MAX_BYTES, "{message:?} gives {} bytes", json.len());
        }
    }
}
