//! What `prepare` leaves behind for `serve` and for whoever watches: a model with its proof, a refusal, or a fault.
//!
//! Comes in and goes out: JSON of at most 4 KiB, the size of a container's termination message. Never: rows
//! of the training data.

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
    /// There is none, and trying again with the same spec and data would not help.
    Refused(Refusal),
    /// There is none this time; trying again may help, and whoever started the preparation does.
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
    /// How good the model is on the rows held out.
    pub quality: Quality,
    /// How many rows it was trained on.
    pub samples: usize,
    /// How long it took.
    pub seconds: f64,
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

    #[test]
    fn a_refusal_keeps_within_the_limit_whatever_its_message() {
        for message in ["\u{1}", "\u{1f333}", "\"", "a"] {
            let report = Report::Refused(Refusal::new(Code::DataInvalid, message.repeat(5000)));
            let json = serde_json::to_vec(&report).unwrap();
            assert!(json.len() <= REPORT_MAX_BYTES, "{message:?} gives {} bytes", json.len());
        }
    }
}
