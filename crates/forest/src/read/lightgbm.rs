//! The text files of `LightGBM` 3.3 and 4: `Booster.save_model`.
//!
//! The rules of its trees are those of `Tree::NumericalDecision` and `Tree::CategoricalDecision` in `LightGBM`'s sources.

mod sections;
mod objective;
mod header;
mod trees;

use crate::ensemble::precision::Precision;
use crate::read::builder::Builder;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::{ImportedModel, Model, Step};

use header::Header;
use sections::File;
use trees::{ZERO, ZeroColumns};

const FORMAT: Format = Format::LightGbm;

/// Reads a model.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
    let at = |place: &'static str| move |problem: Problem| problem.at(FORMAT, place);
    Limits::check("bytes", bytes.len(), limits.bytes).map_err(at(""))?;
    let text = std::str::from_utf8(bytes).map_err(|error| at("")(Problem::malformed(error.to_string())))?;
    let mut file = File::open(text).map_err(at("header"))?;
    let header = Header::read(&file.header, file.pandas).map_err(at("header"))?;

    let outputs = header.outputs;
    let mut builder = Builder::new(outputs, *limits);
    let mut zeros = ZeroColumns::new(header.inputs.len());
    while let Some(section) = file.next_tree() {
        let index = builder.trees();
        let add = |section| trees::add(&section, &mut builder, index % outputs, &mut zeros);
        section.and_then(add).map_err(|problem| problem.at(FORMAT, format!("tree {index}")))?;
    }
    let count = builder.trees();
    header.check_trees(count).map_err(at("header"))?;

    // The average is over the rounds of boosting; each has one tree for each output.
    let scale = if header.is_average { outputs as f64 / count as f64 } else { 1.0 };
    let base = vec![0.0; outputs];
    let ensemble =
        builder.finish(header.inputs.len(), Precision::Double, base, scale).map_err(at("trees"))?;
    let columns = zeros.columns();
    let steps =
        if columns.is_empty() { vec![] } else { vec![Step::ZeroToMissing { largest: ZERO, columns }] };
    Ok(ImportedModel {
        format: FORMAT,
        inputs: header.inputs,
        steps,
        model: Model::Trees(ensemble),
        link: header.link,
        output: header.output,
        handles_missing: true,
    })
}
