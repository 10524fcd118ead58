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

/// The programs that go into images, with everything they need inside.
pub(crate) struct Static {
    pub(crate) canopy: PathBuf,
    pub(crate) operator: PathBuf,
    pub(crate) gateway: PathBuf,
    pub(crate) predictor: PathBuf,
}

/// Builds the programs for images.
pub(crate) fn statically() -> Result<Static> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let profile = ["build", "--profile", "dist", "--target", TARGET, "--target-dir", "target/static"];
    let packages = ["canopy", "canopy-operator", "canopy-gateway", "canopy-predictor"];
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    // An empty image has no /dev: random numbers must come from the system call.
    let flags = "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"";
    run(cargo(profile.into_iter().chain(packages)).env("RUSTFLAGS", flags))?;
    let folder = root().join("target/static").join(TARGET).join("dist");
    Ok(Static {
        canopy: folder.join("canopy"),
        operator: folder.join("canopy-operator"),
        gateway: folder.join("canopy-gateway"),
        predictor: folder.join("canopy-predictor"),
    })
}
