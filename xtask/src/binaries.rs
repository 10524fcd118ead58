//! Our own programs, built for a purpose.
//!
//! Comes in: nothing. Goes out: paths of programs that are as new as the sources. Never: a build that makes
//! the ordinary ones start from nothing again; static ones have a target folder of their own.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{capture, cargo, root, run};

/// What `cargo run --release` runs.
pub(crate) fn canopy() -> Result<PathBuf> {
    run(&mut cargo(["build", "--quiet", "--release", "--package", "canopy"]))?;
    Ok(root().join("target/release/canopy"))
}

/// What `canopy` prints when asked with `arguments`.
pub(crate) fn canopy_says(arguments: &[&str]) -> Result<Vec<u8>> {
    capture(&mut cargo(["run", "--quiet", "--release", "--package", "canopy", "--"].iter().chain(arguments)))
}
