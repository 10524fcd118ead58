//! Files of `skops.io.dump`: models of scikit-learn without pickle. A file is a zip archive of `schema.json`, which
//! describes the objects, and one `.npy` file for each array.

mod npy;
mod schema;
mod file;
mod row;
mod steps;
mod trees;
mod boosting;
mod linear;
mod pipeline;

use crate::read::archive::Archive;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::ImportedModel;

use file::File;

/// The name of the description of the objects.
pub(crate) const SCHEMA: &str = "schema.json";

/// Reads a file whose steps and model are all known. Another one is refused by its name.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
    let at_start = |problem: Problem| problem.at(Format::Skops, "");
    Limits::check("bytes", bytes.len(), limits.bytes).map_err(at_start)?;
    let archive = Archive::open(bytes, limits.bytes).map_err(at_start)?;
    let text = archive.read(SCHEMA).map_err(at_start)?;
    let schema = schema::parse(&text, limits.nodes / 2).map_err(at_start)?;
    let root = schema.object().map_err(at_start)?;
    pipeline::model(&File { archive, limits }, root)
}
