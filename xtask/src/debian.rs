//! Programs and files that a check needs and a machine may lack, from Debian's packages.
//!
//! Comes in: a program or file and its package. Goes out: it is there, or one line that says what is missing.
//! Never: a service that the package would start.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::shell::{command, exists, run};

/// Sees to it that `program` is there, by `package` if need be.
pub(crate) fn need(program: &str, package: &str) -> Result<()> {
    install_unless(exists(program), program, package)
}

/// Sees to it that the file `path` is there, by `package` if need be.
pub(crate) fn need_file(path: &str, package: &str) -> Result<()> {
    install_unless(Path::new(path).is_file(), path, package)
}

fn install_unless(is_there: bool, what: &str, package: &str) -> Result<()> {
    if is_there {
        return Ok(());
    }
    install(package)
        .with_context(|| format!("{what} is missing: install the Debian package {package}, or be root"))
}

fn install(package: &str) -> Result<()> {
    // An installation that was interrupted must end before another can begin.
    run(&mut command("dpkg", ["--configure", "--pending"]))?;
    run(&mut command("apt-get", ["update", "--quiet=2"]))?;
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends", package];
    // In this run level Debian's scripts install services without starting them.
    run(command("apt-get", install).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"))
}
