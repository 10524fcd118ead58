//! Builds of the project's programs.
//!
//! Every build of a check selects the whole workspace, with the target and flags of `shell::cargo`, so that third-party
//! crates are compiled once for tests, for the laptop and for images.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{TARGET, capture, cargo, command, root, run};

/// Building this test beside a program selects the features that `cargo test --workspace` selects.
const SELECTS_FEATURES: [&str; 3] = ["--workspace", "--test", "traces"];

/// The command line tool, as quick to build as `cargo run --release` builds it.
pub(crate) fn canopy() -> Result<PathBuf> {
    let words = ["build", "--quiet", "--release", "--locked", "--bin", "canopy"];
    run(&mut cargo(words.iter().chain(&SELECTS_FEATURES)))?;
    Ok(folder("release").join("canopy"))
}

/// The output of `canopy` with `arguments`.
pub(crate) fn output_of_canopy(arguments: &[&str]) -> Result<Vec<u8>> {
    capture(&mut command(canopy()?, arguments))
}

/// How the programs of images are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Quickly, from what the tests have compiled already: for the checks of every change.
    Quick,
    /// Small and fast: for people, and for `check --full=dist`.
    Distribution,
}

/// The programs of images, statically linked.
pub(crate) struct Static {
    pub(crate) canopy: PathBuf,
    pub(crate) operator: PathBuf,
    pub(crate) gateway: PathBuf,
    pub(crate) predictor: PathBuf,
}

/// Builds the programs for images.
pub(crate) fn statically(build: Build) -> Result<Static> {
    let programs = ["canopy", "canopy-operator", "canopy-gateway", "canopy-predictor"];
    let folder = match build {
        Build::Quick => {
            let bins = programs.iter().flat_map(|name| ["--bin", name]);
            run(&mut cargo(
                ["build", "--release", "--locked"].into_iter().chain(bins).chain(SELECTS_FEATURES),
            ))?;
            folder("release")
        }
        Build::Distribution => {
            let packages = programs.iter().flat_map(|name| ["--package", name]);
            run(&mut cargo(["build", "--profile", "dist", "--locked"].into_iter().chain(packages)))?;
            folder("dist")
        }
    };
    Ok(Static {
        canopy: folder.join("canopy"),
        operator: folder.join("canopy-operator"),
        gateway: folder.join("canopy-gateway"),
        predictor: folder.join("canopy-predictor"),
    })
}

/// Where cargo puts the programs of a profile.
fn folder(profile: &str) -> PathBuf {
    root().join("target").join(TARGET).join(profile)
}
