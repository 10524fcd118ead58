//! Files that are generated from the code and committed.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::binaries::output_of_canopy;
use crate::shell::root;

/// Each file, and the arguments of `canopy` that print it.
const FILES: [(&str, &[&str]); 4] = [
    ("deploy/crd.yaml", &["crd"]),
    // Helm installs definitions from the chart.
    ("charts/canopy/crds/predictormodels.yaml", &["crd"]),
    ("docs/generated/openapi-gateway.json", &["openapi", "gateway"]),
    ("docs/generated/openapi-predictor.json", &["openapi", "predictor"]),
];

/// Writes all files.
pub(crate) fn write() -> Result<()> {
    for (path, words) in FILES {
        let path = root().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        }
        fs::write(&path, output_of_canopy(words)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Compares every file with the code.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for (path, words) in FILES {
        // A file that is missing is stale.
        if fs::read(root().join(path)).unwrap_or_default() != output_of_canopy(words)? {
            stale.push(path);
        }
    }
    ensure!(
        stale.is_empty(),
        "{} differs from what the code generates: run cargo xtask generate",
        stale.join(", ")
    );
    Ok(())
}
