//! One command for clusters: it holds a lock, and the programs that it starts are tagged and find the cluster's programs first.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::paths::Paths;
use crate::env_tag::EnvTag;
use crate::shell::{self, run_with_input};

/// A running command.
pub(crate) struct Session {
    pub(crate) paths: Paths,
    _lock: Option<File>,
}

impl Session {
    /// Waits for the lock, then kills what an earlier command that was killed left running.
    pub(crate) fn exclusive() -> Result<Self> {
        let paths = Paths::of_this_user()?;
        let lock = paths.lock()?;
        EnvTag::Cluster.kill_all(paths.run())?;
        drop(fs::remove_dir_all(paths.scratch()));
        for folder in [paths.scratch(), paths.programs()] {
            fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        Ok(Self { paths, _lock: Some(lock) })
    }

    /// Without the lock: for commands that change nothing.
    pub(crate) fn read_only() -> Result<Self> {
        Ok(Self { paths: Paths::of_this_user()?, _lock: None })
    }

    /// A program to run as part of this command.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = shell::command(program, arguments);
        EnvTag::Cluster.put(&mut command, self.paths.run());
        command.env("PATH", self.path()).env("TMPDIR", self.paths.scratch());
        command
    }

    /// Links a program, or all programs of a folder, into the folder that comes first on the path.
    pub(crate) fn put_on_path(&self, path: &Path) -> Result<()> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        for program in if path.is_dir() { entries.collect() } else { vec![path.to_owned()] } {
            let link = self.paths.programs().join(program.file_name().unwrap_or_default());
            let failed = || format!("failed to link {}", link.display());
            if link.is_symlink() {
                fs::remove_file(&link).with_context(failed)?;
            }
            symlink(&program, &link).with_context(failed)?;
        }
        Ok(())
    }

    fn path(&self) -> OsString {
        let mut path = self.paths.programs().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }
}

/// Runs a command and shows its output only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    run_with_input(command, "").map(|_| ())
}

/// Prints a line for people, on standard error.
#[expect(clippy::print_stderr, reason = "standard output is for programs")]
pub(crate) fn print(what: &str) {
    eprintln!("cluster: {what}");
}

/// Runs `action`; prints when it begins and the seconds it took.
pub(crate) fn timed<T>(what: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    print(&format!("{what} …"));
    let start = Instant::now();
    let done = action().with_context(|| format!("failed: {what}"))?;
    print(&format!("{what}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(done)
}
