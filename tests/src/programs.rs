//! Finds the programs under test, which cargo builds if their sources have changed, and other programs on `PATH`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The program `name`, which is also the name of its package.
pub fn program(name: &str) -> Result<&'static Path> {
    static BUILT: OnceLock<Result<Vec<PathBuf>, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let built = built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let found = built.iter().find(|path| path.file_name().is_some_and(|file| file == name));
    found.map(PathBuf::as_path).with_context(|| format!("cargo built no {name}, only {built:?}"))
}

/// A program on `PATH`.
pub fn found(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("there is no {name} on PATH"))
}

fn build() -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--message-format", "json-render-diagnostics"]);
    // The profile of this test: that of `cargo test`, or that of `cargo xtask check`, which shares a folder with `release`.
    let own = std::env::current_exe().context("a program knows where it is")?;
    let is_beside_release = own.components().any(|part| part.as_os_str() == "release");
    cargo.args(["--profile", if is_beside_release { "bench" } else { "dev" }]);
    // A test among the targets makes cargo use the features of `cargo test --workspace`, so that it finds the programs
    // already built.
    cargo.args([
        "--workspace",
        "--bin",
        "canopy-gateway",
        "--bin",
        "canopy-predictor",
        "--test",
        "processes",
    ]);
    // Cargo's variables of this package would make build scripts that read them run again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of_package| name.to_string_lossy().starts_with(of_package))
        {
            cargo.env_remove(name);
        }
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("failed to start cargo")?;
    ensure!(output.status.success(), "cargo build ended with {}", output.status);
    let messages = String::from_utf8(output.stdout)?;
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    Ok(programs.collect())
}
