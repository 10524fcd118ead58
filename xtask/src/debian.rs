//! Installs Debian packages for programs and files that a check needs. No service of a package is started.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::shell::{command, exists, run_aside};

/// Installs `package` unless `program` exists.
pub(crate) fn need(program: &str, package: &str) -> Result<()> {
    install_unless(exists(program), program, package)
}

/// Installs `package` unless the file `path` exists.
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
    // Completes an installation that was interrupted, which blocks others.
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

    /// Set in the process whose output is checked.
    const INSTALLS: &str = "CANOPY_TEST_INSTALLS";

    #[test]
    fn the_output_of_installers_is_on_standard_error() {
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
        this.args(["--exact", "debian::tests::the_output_of_installers_is_on_standard_error", "--nocapture"]);
        this.env(INSTALLS, "yes").env("PATH", format!("{}:{path}", folder.path().display()));
        let ended = this.output().unwrap();
        let [output, errors] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(ended.status.success(), "{output}{errors}");
        assert!(!output.contains("installer:"), "{output}");
        for words in
            ["--configure --pending", "update", "install --yes --quiet=2 --no-install-recommends hello"]
        {
            assert!(errors.contains(&format!("installer: {words}")), "{words} is not in {errors}");
        }
    }
}
