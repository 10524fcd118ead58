//! Reads a file, or standard input for the path '-', up to a limit of bytes.

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
