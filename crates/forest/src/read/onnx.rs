//! ONNX files of trees and linear models, with the preprocessing in front of them.

mod messages;
mod branches;
mod trees;
mod tree_ensemble;
mod linear;
mod table;
mod prepare;
mod walk;

use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::ImportedModel;

/// Reads a file whose operators are all of those in the module's documentation. Another operator is refused by its name.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
    let at_start = |problem: Problem| problem.at(Format::Onnx, "");
    Limits::check("bytes", bytes.len(), limits.bytes).map_err(at_start)?;
    let graph = messages::graph(bytes, limits).map_err(at_start)?;
    walk::model(&graph, limits)
}
