//! What a command reads: a file, or standard input where the file is called '-'.
//!
//! Comes in: a path. Goes out: bytes. Never: more of them than the caller allows.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use canopy_predictor::files;

use crate::console;

/// Reads at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return Ok(files::read(path, limit)?);
    }
    let bytes = console::read(limit).context("failed to read standard input")?;
    ensure!(bytes.len() as u64 <= limit, "failed to read standard input: it is larger than {limit} bytes");
    Ok(bytes)
}
