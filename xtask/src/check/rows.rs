//! `tests/full.tsv`: one row for each run of a slice of the long checks, written by the run itself.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{capture, command, root};

/// From the root of the clone.
pub(super) const FILE: &str = "tests/full.tsv";
const COLUMNS: &str = "date\tcommit\tslice\tkubernetes\tseconds\tresult\tfigures";

/// A run of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) date: String,
    pub(super) commit: String,
    pub(super) slice: String,
    pub(super) kubernetes: String,
    pub(super) seconds: u64,
    pub(super) passed: bool,
    pub(super) figures: String,
}

/// Appends a row.
pub(super) fn append(row: &Row) -> Result<()> {
    let path = root().join(FILE);
    let failed = || format!("failed to append to {FILE}");
    let mut file = fs::OpenOptions::new().append(true).open(path).with_context(failed)?;
    writeln!(file, "{}", line(row)).with_context(failed)
}

fn line(row: &Row) -> String {
    let Row { date, commit, slice, kubernetes, seconds, passed, figures } = row;
    let result = if *passed { "passed" } else { "failed" };
    let figures = figures.replace(['\t', '\n'], " ");
    format!("{date}\t{commit}\t{slice}\t{kubernetes}\t{seconds}\t{result}\t{figures}")
}

/// All rows.
pub(super) fn read() -> Result<Vec<Row>> {
    parse(&fs::read_to_string(root().join(FILE)).with_context(|| format!("failed to read {FILE}"))?)
}

fn parse(text: &str) -> Result<Vec<Row>> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some(COLUMNS), "{FILE} must begin with the line {COLUMNS:?}");
    lines.enumerate().map(|(i, line)| row(line).with_context(|| format!("{FILE}, line {}", i + 2))).collect()
}

fn row(line: &str) -> Result<Row> {
    let columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
    let [date, commit, slice, kubernetes, seconds, result, figures] = columns
        .try_into()
        .map_err(|columns: Vec<_>| anyhow::anyhow!("a row has 7 columns, but there are {}", columns.len()))?;
    let passed = match result.as_str() {
        "passed" => true,
        "failed" => false,
        _ => bail!("a result is \"passed\" or \"failed\", got {result:?}"),
    };
    let seconds = seconds.parse().with_context(|| format!("seconds are a whole number, got {seconds:?}"))?;
    Ok(Row { date, commit, slice, kubernetes, seconds, passed, figures })
}

/// What git prints, without the end of its last line. The clone may belong to another user.
pub(super) fn git(arguments: &[&str]) -> Result<String> {
    let words = ["-c", "safe.directory=*"].iter().chain(arguments);
    Ok(String::from_utf8_lossy(&capture(&mut command("git", words))?).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Row {
        Row {
            date: "2026-11-30".to_owned(),
            commit: "0123abc".to_owned(),
            slice: "soak".to_owned(),
            kubernetes: "v1.37.2".to_owned(),
            seconds: 1_900,
            passed: true,
            figures: "a; b".to_owned(),
        }
    }

    #[test]
    fn a_row_that_was_written_is_read_back() {
        let (passed, failed) = (example(), Row { passed: false, ..example() });
        let text = format!("{COLUMNS}\n{}\n{}\n", line(&passed), line(&failed));
        assert_eq!(parse(&text).unwrap(), [passed, failed]);
        let figures = line(&Row { figures: "a\tb\nc".to_owned(), ..example() });
        assert!(figures.ends_with("\ta b c"), "{figures}");
    }

    #[test]
    fn a_row_that_no_run_writes_is_refused() {
        let check = |row: &str, expected: &str| {
            let error = format!("{:#}", parse(&format!("{COLUMNS}\n{row}\n")).unwrap_err());
            assert_eq!(error, format!("tests/full.tsv, line 2: {expected}"));
        };
        let row = line(&example());
        check("a", "a row has 7 columns, but there are 1");
        check(&row.replace("passed", "fine"), "a result is \"passed\" or \"failed\", got \"fine\"");
        assert!(parse("").is_err());
    }
}
