//! Programs and files that a check needs and a machine may lack, from Debian's packages.
//!
//! Comes in: a program or file and its package. Goes out: it is there, or one line that says what is missing.
//! Never: a service that the package would start.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::shell::{command, exists, run_aside};

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
    run_aside(&mut command("dpkg", ["--configure", "--pending"]))?;
    run_aside(&mut command("apt-get", ["update", "--quiet=2"]))?;
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends", package];
    // In this run level Debian's scripts install services without starting them.
    run_aside(command("apt-get", install).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    /// Set in the process whose output is looked at.
    const INSTALLS: &str = "CANOPY_TEST_INSTALLS";

    #[test]
    fn what_installers_print_comes_on_standard_error() {
        if std::env::var_os(INSTALLS).is_some() {
            return install("hello").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        for program in ["apt-get", "dpkg"] {
            let path = folder.path().join(program);
            fs::write(&path, "#!/bin/sh\necho installer: $*\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        let mut this = Command::new(std::env::current_exe().unwrap());
        this.args(["--exact", "debian::tests::what_installers_print_comes_on_standard_error", "--nocapture"]);
        this.env(INSTALLS, "yes").env("PATH", format!("{}:{path}", folder.path().display()));
        let output = this.output().unwrap();
        let [said, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{said}{told}");
        assert!(!said.contains("installer:"), "{said}");
        for words in
            ["--configure --pending", "update", "install --yes --quiet=2 --no-install-recommends hello"]
        {
            assert!(told.contains(&format!("installer: {words}")), "{words} is not in {told}");
        }
    }
}
