//! What checks need of this machine: all that is missing is listed at once, before the first check runs.

use std::path::Path;

use rustix::process::geteuid;

use crate::shell::exists;

/// A program or file from a Debian package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// A program and its package.
    Program(&'static str, &'static str),
    /// A file and its package.
    File(&'static str, &'static str),
}

impl Requirement {
    /// Its name and its package, unless it is there.
    fn missing(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Program(name, package) => (!exists(name)).then_some((name, package)),
            Self::File(path, package) => (!Path::new(path).is_file()).then_some((path, package)),
        }
    }
}

/// The requirements that are missing, each in words, if they cannot be installed here.
pub(crate) fn missing(requirements: impl IntoIterator<Item = Requirement>) -> Vec<String> {
    let can_install = geteuid().is_root() && exists("apt-get");
    describe(requirements.into_iter().filter_map(Requirement::missing), can_install)
}

fn describe(missing: impl Iterator<Item = (&'static str, &'static str)>, can_install: bool) -> Vec<String> {
    // What every command starts with cannot be installed by one.
    let mut lines: Vec<_> = missing
        .filter(|(name, _)| !can_install || *name == "setpriv")
        .map(|(name, package)| format!("{name}, of the Debian package {package}"))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_listed_once() {
        let missing = [("promtool", "prometheus"), ("npm", "npm"), ("promtool", "prometheus")];
        assert_eq!(
            describe(missing.into_iter(), false),
            ["npm, of the Debian package npm", "promtool, of the Debian package prometheus"]
        );
        assert_eq!(describe(missing.into_iter(), true), [""; 0]);
        assert_eq!(Requirement::Program("sh", "dash").missing(), None);
        assert_eq!(Requirement::File("/no/such", "none").missing(), Some(("/no/such", "none")));
    }
}
