//! How long ago the slices of the long checks passed.

use anyhow::{Result, ensure};

use super::rows::{FILE, Row, git, read};
use super::slices::SLICES;

/// How far the newest pass of a slice may be behind.
const DAYS_MAX: i64 = 21;
const COMMITS_MAX: u64 = 300;
/// The file that declares the slices.
const DECLARED_IN: &str = "xtask/src/check/slices.rs";

/// Prints how far the newest pass of each slice is behind, and fails where that is too far.
///
/// A clone without history cannot count commits: there only the rows are read.
#[expect(clippy::print_stdout, reason = "people read it")]
pub(super) fn check() -> Result<()> {
    let rows = read()?;
    for Row { slice, .. } in &rows {
        ensure!(
            SLICES.iter().any(|known| known.name == slice),
            "{FILE} has a row of {slice:?}, which is not a slice"
        );
    }
    if git(&["rev-parse", "--is-shallow-repository"]).ok().as_deref() != Some("false") {
        println!(
            "this clone has no history: how far slices are behind was not counted; a full clone counts it"
        );
        return Ok(());
    }
    let mut late = Vec::new();
    for slice in SLICES {
        let passes: Vec<_> = rows.iter().filter(|row| row.slice == slice.name && row.passed).collect();
        let mut newest: Option<Behind> = None;
        for row in &passes {
            let behind = Behind::of(&row.commit)?;
            if newest.as_ref().is_none_or(|newest| behind.commits < newest.commits) {
                newest = Some(behind);
            }
        }
        let (what, behind) = match newest {
            Some(behind) => ("passed", behind),
            None => ("never run; introduced", Behind::of(&introduced(slice.name)?)?),
        };
        println!("{:<16} {what} {} days and {} commits ago", slice.name, behind.days, behind.commits);
        if behind.is_late() {
            late.push(slice.name);
        }
    }
    let commands: Vec<_> = late.iter().map(|name| format!("cargo xtask check --full={name}")).collect();
    ensure!(
        late.is_empty(),
        "more than {DAYS_MAX} days or {COMMITS_MAX} commits without a pass of {}: run {}",
        late.join(", "),
        commands.join(", ")
    );
    Ok(())
}

/// How far a commit is behind the commit that is checked out.
struct Behind {
    days: i64,
    commits: u64,
}

impl Behind {
    fn of(commit: &str) -> Result<Self> {
        ensure!(
            git(&["merge-base", "--is-ancestor", commit, "HEAD"]).is_ok(),
            "{FILE} names {commit}, which is not an ancestor of this commit"
        );
        let commits = git(&["rev-list", "--count", "--no-merges", &format!("{commit}..HEAD")])?.parse()?;
        let time = |commit: &str| -> Result<i64> {
            Ok(git(&["show", "--no-patch", "--format=%ct", commit])?.parse()?)
        };
        Ok(Self { days: (time("HEAD")? - time(commit)?) / 86_400, commits })
    }

    const fn is_late(&self) -> bool {
        self.days > DAYS_MAX || self.commits > COMMITS_MAX
    }
}

/// The commit that introduced a slice; the one that is checked out if none has yet.
fn introduced(slice: &str) -> Result<String> {
    let declaration = format!("-Sname: \"{slice}\"");
    let commits = git(&["log", "--reverse", "--format=%H", &declaration, "--", DECLARED_IN])?;
    Ok(commits.lines().next().unwrap_or("HEAD").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_late_beyond_21_days_or_300_commits() {
        for (days, commits, expected) in [(21, 300, false), (22, 0, true), (0, 301, true), (0, 0, false)] {
            assert_eq!(Behind { days, commits }.is_late(), expected, "{days} {commits}");
        }
    }
}
