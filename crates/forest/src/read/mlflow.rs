//! Model folders of `MLflow`: the file `MLmodel`, which is YAML, names the file of the model and the columns of its table.

mod manifest;
mod signature;

use std::collections::BTreeMap;

use crate::data::seen::Seen;
use crate::read::error::{Limits, Problem, ReadError};
use crate::read::format::Format;
use crate::read::model::ImportedModel;
use crate::read::reader;

use manifest::Flavor;
use signature::Signature;

/// The name of the file that describes a folder.
pub const MANIFEST: &str = "MLmodel";
/// The most bytes of the file that describes a folder.
pub const MANIFEST_MAX: usize = 1 << 20;

/// What `MLmodel` says of a folder.
#[derive(Debug)]
pub struct Manifest {
    flavor: Flavor,
    file: String,
    signature: Option<Signature>,
}

impl Manifest {
    /// Reads the file `MLmodel`. A folder without a flavour that is supported is refused with the command that saves one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let read = || {
            Limits::check("bytes of MLmodel", bytes.len(), MANIFEST_MAX)?;
            let (flavor, file, signature) = manifest::parse(bytes)?;
            let signature = signature.as_deref().map(Signature::parse).transpose()?;
            Ok(Self { flavor, file, signature })
        };
        read().map_err(|problem: Problem| problem.at(Format::Mlflow, MANIFEST))
    }

    /// The name of the model's file in the folder. It is a relative path that does not leave the folder.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Reads the model from the bytes of its file. Inputs get the names of the signature.
    pub fn read(&self, bytes: &[u8], limits: &Limits) -> Result<ImportedModel, ReadError> {
        let format = crate::read::detect::detect(bytes);
        let at = |problem: Problem| problem.at(Format::Mlflow, Seen::new(&self.file).to_string());
        self.flavor.check(format).map_err(at)?;
        let mut model = reader::read(bytes, limits)?;
        if let Some(signature) = &self.signature {
            signature.apply(&mut model).map_err(|problem| problem.at(Format::Mlflow, "signature"))?;
        }
        Ok(model)
    }
}

/// Reads a folder: the bytes of its files, by their names in the folder.
pub fn read(files: &BTreeMap<String, Vec<u8>>, limits: &Limits) -> Result<ImportedModel, ReadError> {
    let file = |name: &str| {
        files.get(name).ok_or_else(|| {
            Problem::malformed(format!("the folder has no file {}", Seen::new(name))).at(Format::Mlflow, "")
        })
    };
    let manifest = Manifest::parse(file(MANIFEST)?)?;
    manifest.read(file(manifest.file())?, limits)
}
