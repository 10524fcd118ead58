//! Files that are made from the code and kept beside it, for people and programs that have no compiler.
//!
//! Comes in: what the code says now. Goes out: the files, or which of them say something else. Never: a file
//! that has been changed by hand.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::binaries::canopy_says;
use crate::shell::root;

/// Each file, and the words after `canopy` that print it.
const FILES: [(&str, &[&str]); 4] = [
    ("deploy/crd.yaml", &["crd"]),
    // Helm wants its own copy.
    ("charts/canopy/crds/predictormodels.yaml", &["crd"]),
    ("docs/generated/openapi-gateway.json", &["openapi", "gateway"]),
    ("docs/generated/openapi-predictor.json", &["openapi", "predictor"]),
];

/// Writes every file anew.
pub(crate) fn write() -> Result<()> {
    for (path, words) in FILES {
        let path = root().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        }
        fs::write(&path, canopy_says(words)?)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Compares every file with what the code says.
pub(crate) fn check() -> Result<()> {
    let mut stale = Vec::new();
    for (path, words) in FILES {
        // A file that is not there is as stale as one that says something else.
        if fs::read(root().join(path)).unwrap_or_default() != canopy_says(words)? {
            stale.push(path);
        }
    }
    ensure!(stale.is_empty(), "{} is not what the code says; run: cargo xtask generate", stale.join(", "));
    Ok(())
}
