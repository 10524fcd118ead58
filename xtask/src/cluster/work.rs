//! One chore on clusters at a time, in steps that are told and timed.
//!
//! Comes in: what a step is called and what it does. Goes out: commands that carry the mark of a step and find
//! the cluster's programs first. Never: a beginning beside the leavings of a chore that was killed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::marked::Mark;
use super::place::Place;
use crate::shell::{self, feed};

/// A chore at work.
pub(crate) struct Work {
    pub(crate) place: Place,
    _turn: Option<File>,
}

impl Work {
    /// Begins when every other chore has ended, and ends what a killed one left running.
    pub(crate) fn begin() -> Result<Self> {
        let place = Place::of_this_user()?;
        let turn = place.turn()?;
        Mark::Step.end_carriers(&place.run())?;
        drop(fs::remove_dir_all(place.scratch()));
        for folder in [place.scratch(), place.programs()] {
            fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        Ok(Self { place, _turn: Some(turn) })
    }

    /// Looks only, whoever is at work.
    pub(crate) fn look() -> Result<Self> {
        Ok(Self { place: Place::of_this_user()?, _turn: None })
    }

    /// A command that is part of this chore.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = shell::command(program, arguments);
        Mark::Step.put(&mut command, &self.place.run());
        command.env("PATH", self.path()).env("TMPDIR", self.place.scratch());
        command
    }

    /// Makes a program, or all in a folder, those that are found first.
    pub(crate) fn find_first(&self, path: &Path) -> Result<()> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        for program in if path.is_dir() { entries.collect() } else { vec![path.to_owned()] } {
            let link = self.place.programs().join(program.file_name().unwrap_or_default());
            let failed = || format!("failed to link {}", link.display());
            if link.is_symlink() {
                fs::remove_file(&link).with_context(failed)?;
            }
            symlink(&program, &link).with_context(failed)?;
        }
        Ok(())
    }

    fn path(&self) -> OsString {
        let mut path = self.place.programs().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }
}

/// Runs a command; what it says is only of interest where it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    feed(command, "").map(|_| ())
}

/// Tells people what happens.
#[expect(clippy::print_stderr, reason = "people watch it; what programs read is on standard output")]
pub(crate) fn tell(what: &str) {
    eprintln!("cluster: {what}");
}

/// Takes a step, and tells when it begins and how long it took.
pub(crate) fn step<T>(what: &str, take: impl FnOnce() -> Result<T>) -> Result<T> {
    tell(&format!("{what} …"));
    let start = Instant::now();
    let taken = take().with_context(|| format!("failed in the step: {what}"))?;
    tell(&format!("{what}: {:.1} s", start.elapsed().as_secs_f64()));
    Ok(taken)
}
