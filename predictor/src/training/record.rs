//! The files that `prepare` writes and `serve` reads: the artifact `model.canopy`, and `prepared.json` with its digest, report
//! and golden prediction. The golden row is the only row of the data in them.

use std::path::Path;

use canopy_contract::report::{Prepared, Refusal, Report};
use serde::{Deserialize, Deserializer, Serialize};

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
    /// With a model.
    Prepared {
        /// The report of the model.
        report: Prepared,
        /// The prediction that `serve` must reproduce before it is ready.
        golden: Golden,
        /// A digest of its inputs, if `prepare` may run again in the same folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        made_from: Option<String>,
    },
    /// With a refusal.
    Refused(Refusal),
}

/// A row, and its prediction when the model was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The row, unscaled; NaN is a missing value, which is null in JSON.
    #[serde(deserialize_with = "read_row")]
    pub features: Vec<f64>,
    /// The prediction, exact to the last bit.
    pub answer: Answer,
}

fn read_row<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a valid record.
    #[error("{RECORD} is not a valid record of prepare: {0}")]
    Content(#[from] serde_json::Error),
}

impl Record {
    /// The report for the operator.
    pub fn report(&self) -> Report {
        match self {
            Self::Prepared { report, golden: _, made_from: _ } => Report::Prepared(report.clone()),
            Self::Refused(refusal) => Report::Refused(refusal.clone()),
        }
    }

    /// The same record with a digest of the inputs of the model.
    #[must_use]
    pub fn made_from(self, digest: String) -> Self {
        match self {
            Self::Prepared { report, golden, made_from: _ } => {
                Self::Prepared { report, golden, made_from: Some(digest) }
            }
            Self::Refused(refusal) => Self::Refused(refusal),
        }
    }

    /// Writes the artifact, then the record, into `folder`: a record never exists without its artifact.
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

/// Writes the report to the termination log, where the operator reads it.
pub fn tell(report: &Report, termination_log: &Path) -> Result<(), RecordError> {
    Ok(files::overwrite(termination_log, &serde_json::to_vec(report)?)?)
}
