//! Reads the manifests that are given as files, and reports errors with file and line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use canopy_resource::field_error::FieldError;
use canopy_resource::manifest::{self, Manifests};

use crate::input;

/// More than the largest `ConfigMap` that a cluster takes, for a file with several.
const MANIFEST_MAX_BYTES: u64 = 16 << 20;

/// Reads all files together; without any, the demo model.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Manifests> {
    if paths.is_empty() {
        return manifest::read(manifest::DEMO).map_err(|error| located("the demo model", &error.to_string()));
    }
    let mut all = Manifests::default();
    for path in paths {
        let name = path.display().to_string();
        let found = manifest::read(&read(path)?).map_err(|error| located(&name, &error.to_string()))?;
        all.join(found).map_err(|twice| {
            let lines: Vec<_> = twice.iter().map(FieldError::to_string).collect();
            located(&name, &lines.join("\n"))
        })?;
    }
    ensure!(
        !all.models.is_empty(),
        "there is no PredictorModel in {}; add one",
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    );
    Ok(all)
}

/// Every line with the name of the file before it.
fn located(file: &str, lines: &str) -> anyhow::Error {
    let lines: Vec<_> = lines.lines().map(|line| format!("{file}: {line}")).collect();
    anyhow!("{}", lines.join("\n"))
}

fn read(path: &Path) -> Result<String> {
    let bytes = input::read(path, MANIFEST_MAX_BYTES)?;
    String::from_utf8(bytes)
        .with_context(|| format!("failed to read {}: it is not UTF-8 text", path.display()))
}
