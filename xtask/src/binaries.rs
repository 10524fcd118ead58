//! Builds of the project's programs.
//!
//! Every build of a check selects the whole workspace, with the target and flags of `shell::cargo`, so that third-party
//! crates are compiled once for tests, for the laptop and for images.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::shell::{TARGET, capture, cargo, command, root, run};

/// Building this test beside a program selects the features that `cargo test --workspace` selects.
const SELECTS_FEATURES: [&str; 3] = ["--workspace", "--test", "processes"];

/// Set once the tests have been built in this run: from then on no third-party crate may be compiled again.
static TESTS_ARE_BUILT: AtomicBool = AtomicBool::new(false);

/// Notes that the tests have been built in this run.
pub(crate) fn tests_are_built() {
    TESTS_ARE_BUILT.store(true, Ordering::Relaxed);
}

/// Builds programs from what the tests have compiled. Fails where a third-party crate had to be compiled again after the tests
/// were built: then its features or its profile differ between the two.
fn build_quickly(programs: &[&str]) -> Result<()> {
    let words = ["build", "--quiet", "--release", "--locked", "--message-format", "json-render-diagnostics"];
    let bins = programs.iter().flat_map(|name| ["--bin", name]);
    let messages = capture(&mut cargo(words.into_iter().chain(bins).chain(SELECTS_FEATURES)))?;
    if TESTS_ARE_BUILT.load(Ordering::Relaxed) {
        let again = compiled_third_party(&String::from_utf8_lossy(&messages));
        ensure!(
            again.is_empty(),
            "third-party crates were compiled for the tests and again for {}, since their features or profiles differ: {}",
            programs.join(", "),
            again.join(", ")
        );
    }
    Ok(())
}

/// The names of the third-party crates that cargo compiled, from its messages.
fn compiled_third_party(messages: &str) -> Vec<String> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut names: Vec<_> = parsed
        .filter(|message| message["reason"] == "compiler-artifact" && message["fresh"] == false)
        .filter(|message| message["package_id"].as_str().is_some_and(|id| id.starts_with("registry+")))
        .filter_map(|message| message["target"]["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The command line tool, as quick to build as `cargo run --release` builds it.
pub(crate) fn canopy() -> Result<PathBuf> {
    build_quickly(&["canopy"])?;
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
            build_quickly(&programs)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_third_party_crates_that_were_compiled_are_named() {
        let messages = r#"
{"reason":"compiler-artifact","package_id":"registry+https://x#serde@1.0.0","target":{"name":"serde"},"fresh":false}
{"reason":"compiler-artifact","package_id":"registry+https://x#tokio@1.0.0","target":{"name":"tokio"},"fresh":true}
{"reason":"compiler-artifact","package_id":"path+file:///x#canopy@0.1.0","target":{"name":"canopy"},"fresh":false}
{"reason":"build-finished","success":true}"#;
        assert_eq!(compiled_third_party(messages), ["serde"]);
    }
}
