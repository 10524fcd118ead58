//! The files that a model is made from: their place in the serving config, and the contents of those in `ConfigMap`s.

use std::path::{Path, PathBuf};

use canopy_contract::serving;

use crate::binary::binary_kind;
use crate::digest::sha256;
use crate::field_error::FieldError;
use crate::manifest::ConfigMaps;
use crate::model::{ARTIFACT_SOURCE, EVALUATE_SOURCE, TRAIN_SOURCE};
use crate::rules::CONFIG_MAP_MAX_BYTES;
use crate::source::{ConfigMapKey, ONE_KIND_OF_SOURCE, Source};

/// A file and what must be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path in the config.
    pub path: PathBuf,
    /// The contents.
    pub bytes: Vec<u8>,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Whether an error in this field is about a `ConfigMap` that does not exist, or has another content than expected.
pub fn is_in_config_map(field: &str) -> bool {
    [TRAIN_SOURCE, ARTIFACT_SOURCE, EVALUATE_SOURCE]
        .iter()
        .any(|source| field.strip_prefix(source).is_some_and(|rest| rest.starts_with(".configMap.")))
}

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A table: text.
    Table,
    /// A model: text or binary.
    Model,
}

/// The files of one model.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    config_maps: &'a ConfigMaps,
    namespace: &'a str,
    folder: &'a Path,
    timeout_seconds: u32,
    /// The files from `ConfigMap`s.
    found: Vec<File>,
}

impl<'a> Files<'a> {
    /// The files of a model in `namespace`, which will be in `folder`. `timeout_seconds` limits each download.
    pub(crate) fn new(
        config_maps: &'a ConfigMaps,
        namespace: &'a str,
        folder: &'a Path,
        timeout_seconds: u32,
    ) -> Self {
        Self { config_maps, namespace, folder, timeout_seconds, found: Vec::new() }
    }

    /// Adds the file `name` from the source in `field`.
    pub(crate) fn add(
        &mut self,
        field: &str,
        source: &Source,
        name: &str,
        kind: Kind,
    ) -> Result<serving::Source, FieldError> {
        match source {
            Source { config_map: Some(key), uri: None, sha256: None } => {
                let bytes = self.content(field, key, kind)?.to_owned();
                let path = self.folder.join(name);
                self.found.push(File { path: path.clone(), sha256: sha256(&bytes), bytes });
                self.check_size(field)?;
                Ok(serving::Source::Path(path))
            }
            Source { config_map: None, uri: Some(uri), sha256: Some(sha256) } => {
                Ok(serving::Source::Download(serving::Download {
                    uri: uri.to_owned(),
                    sha256: sha256.to_owned(),
                    timeout_seconds: self.timeout_seconds,
                }))
            }
            Source { config_map: _, uri: _, sha256: _ } => Err(FieldError::at(field, ONE_KIND_OF_SOURCE.1)),
        }
    }

    /// The files from `ConfigMap`s, in the order in which they were added.
    pub(crate) fn into_found(self) -> Vec<File> {
        self.found
    }

    /// All files of a revision are copied into one `ConfigMap`.
    fn check_size(&self, field: &str) -> Result<(), FieldError> {
        let bytes: usize = self.found.iter().map(|file| file.bytes.len()).sum();
        if bytes <= CONFIG_MAP_MAX_BYTES {
            return Ok(());
        }
        let why = format!(
            "the files of the model have {bytes} bytes together, but must have at most {CONFIG_MAP_MAX_BYTES}, because \
             they are copied into one ConfigMap: put one on a web server and name it by uri"
        );
        Err(FieldError::at(field, why))
    }

    /// The content under a key of a `ConfigMap`.
    fn content(
        &self,
        field: &str,
        ConfigMapKey { name, key }: &ConfigMapKey,
        kind: Kind,
    ) -> Result<&'a [u8], FieldError> {
        let namespace = self.namespace;
        let Some(config_map) = self.config_maps.get(namespace, name) else {
            let why =
                format!("there is no ConfigMap {name} in namespace {namespace}; add it beside the model");
            return Err(FieldError::at(format!("{field}.configMap.name"), why));
        };
        if let Some(text) = config_map.data.as_ref().and_then(|data| data.get(key)) {
            return Ok(text.as_bytes());
        }
        let binary = config_map.binary_data.as_ref().and_then(|data| data.get(key));
        let why = match (binary, kind) {
            (Some(bytes), Kind::Model) => return Ok(&bytes.0),
            (Some(bytes), Kind::Table) => {
                let (kind, advice) = binary_kind(&bytes.0);
                format!("{key} of ConfigMap {name} is {kind}, but must be CSV as text under data: {advice}")
            }
            (None, Kind::Table | Kind::Model) => {
                let text = config_map.data.iter().flatten().map(|(key, _)| key.as_str());
                let binary = config_map.binary_data.iter().flatten().map(|(key, _)| key.as_str());
                let keys: Vec<_> = text.chain(binary.filter(|_| kind == Kind::Model)).collect();
                let keys = if keys.is_empty() {
                    "it has no data".to_owned()
                } else {
                    format!("it has {}", keys.join(", "))
                };
                format!("ConfigMap {name} has no key {key}; {keys}")
            }
        };
        Err(FieldError::at(format!("{field}.configMap.key"), why))
    }
}
