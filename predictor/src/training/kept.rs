//! The model that an earlier run of `prepare` left in the same folder.
//!
//! A restarted container reuses it instead of downloading and training again. It is reused only if the config, the data and
//! the program are the same, its digest is the recorded one, and it reproduces the recorded golden prediction.

use std::io::ErrorKind::NotFound;
use std::path::Path;

use canopy_contract::report::Prepared;
use canopy_contract::rows::Rows;
use canopy_contract::serving::ServingConfig;
use serde::Serialize;

use crate::artifact::{self, Artifact};
use crate::engine::training::Trainer;
use crate::files::{self, FileError};
use crate::training::prepare::DATA_MAX_BYTES;
use crate::training::record::{self, Record, RecordError};

/// The inputs that determine a model.
#[derive(Serialize)]
struct Inputs<'a> {
    program: &'static str,
    trainer: Trainer,
    config: &'a ServingConfig,
    /// The digests of the files on this machine; the config has those of files at a URL.
    files: Vec<String>,
}

/// A digest of the inputs of a model of `config` is made from.
pub fn made_from(config: &ServingConfig, trainer: Trainer) -> Result<String, RecordError> {
    let digest = |path: &Path| files::read(path, DATA_MAX_BYTES).map(|bytes| artifact::digest(&bytes));
    let files = config.local_files().map(digest).collect::<Result<_, _>>()?;
    let inputs = Inputs { program: env!("CARGO_PKG_VERSION"), trainer, config, files };
    Ok(artifact::digest(&serde_json::to_vec(&inputs)?))
}

/// The model in `folder` whose inputs have this digest, or none if the folder has no model. The error is the reason why a
/// model that is there cannot be reused.
pub fn find(folder: &Path, digest: &str) -> Result<Option<Prepared>, String> {
    let (report, golden, made_from) = match Record::read(folder) {
        Ok(Record::Prepared { report, golden, made_from }) => (report, golden, made_from),
        // The data may have changed since the refusal, so they are read again.
        Ok(Record::Refused(_)) => return Ok(None),
        Err(RecordError::File(FileError::Read { source, .. })) if source.kind() == NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    if made_from.as_deref() != Some(digest) {
        return Err(
            "it was made from another config, other data or another version of the program".to_owned()
        );
    }
    let bytes = record::artifact(folder).map_err(|error| error.to_string())?;
    if artifact::digest(&bytes) != report.digest {
        return Err(format!(
            "its SHA-256 is {}, but {} is recorded",
            artifact::digest(&bytes),
            report.digest
        ));
    }
    let model = Artifact::decode(&bytes).map_err(|error| error.to_string())?.load();
    let answers = model.predict(&Rows::single(golden.features)).map_err(|error| error.to_string())?;
    if answers != [golden.answer] {
        return Err("its prediction for the golden row differs from the recorded one".to_owned());
    }
    Ok(Some(report))
}
