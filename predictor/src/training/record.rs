//! What `prepare` leaves in a folder for `serve`: the artifact, and beside it the proof that it is the one.
//!
//! Comes in: a preparation that ended. Goes out: `model.canopy` and `prepared.json`, and what they hold when they
//! are read again. Never: a row of the training data but the golden one.

use std::path::Path;

use canopy_contract::report::{Prepared, Refusal, Report};
use serde::{Deserialize, Serialize};

use crate::artifact::ARTIFACT_MAX_BYTES;
use crate::engine::head::Answer;
use crate::files::{self, FileError};

const ARTIFACT: &str = "model.canopy";
const RECORD: &str = "prepared.json";
/// The golden row of a model may be long.
const RECORD_MAX_BYTES: u64 = 1 << 26;

/// How a preparation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Record {
    /// With a model, and with an answer of it.
    Prepared {
        /// What is said of the model.
        report: Prepared,
        /// What the model must answer again before it serves.
        golden: Golden,
        /// A digest of everything that it was made from, where the folder may be prepared again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made_from: Option<String>,
    },
    /// Without a model.
    Refused(Refusal),
}

/// A row and the answer it was given when the model was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The row, unscaled.
    pub features: Vec<f64>,
    /// The answer, to the last bit.
    pub answer: Answer,
}

/// Why a record is not there.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what `prepare` writes.
    #[error("{RECORD} is not what prepare wrote: {0}")]
    Content(#[from] serde_json::Error),
}

impl Record {
    /// What whoever watches is told.
    pub fn report(&self) -> Report {
        match self {
            Self::Prepared { report, golden: _, made_from: _ } => Report::Prepared(report.clone()),
            Self::Refused(refusal) => Report::Refused(refusal.clone()),
        }
    }

    /// The same with a digest of what the model was made from.
    #[must_use]
    pub fn made_from(self, digest: String) -> Self {
        match self {
            Self::Prepared { report, golden, made_from: _ } => {
                Self::Prepared { report, golden, made_from: Some(digest) }
            }
            Self::Refused(refusal) => Self::Refused(refusal),
        }
    }

    /// Writes what there is into `folder`, the record last: what it speaks of is there when it is.
    pub fn write(&self, folder: &Path, artifact: Option<&[u8]>) -> Result<(), RecordError> {
        files::make_folder(folder)?;
        if let Some(artifact) = artifact {
            files::replace(&folder.join(ARTIFACT), artifact)?;
        }
        Ok(files::replace(&folder.join(RECORD), &serde_json::to_vec(self)?)?)
    }

    /// Reads the record in `folder`.
    pub fn read(folder: &Path) -> Result<Self, RecordError> {
        Ok(serde_json::from_slice(&files::read(&folder.join(RECORD), RECORD_MAX_BYTES)?)?)
    }
}

/// The bytes of the artifact in `folder`.
pub fn artifact(folder: &Path) -> Result<Vec<u8>, FileError> {
    files::read(&folder.join(ARTIFACT), ARTIFACT_MAX_BYTES)
}

/// Writes a report where whoever started the process will look for it.
pub fn tell(report: &Report, termination_log: &Path) -> Result<(), RecordError> {
    Ok(files::overwrite(termination_log, &serde_json::to_vec(report)?)?)
}
