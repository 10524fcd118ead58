//! Names that code, documentation and dashboards share. The tests compare them in both directions.

use std::collections::BTreeSet;

use crate::sources::Sources;
use crate::tokens::{code, strings};

/// The names of metrics in the sources of programs, each with its file.
pub(crate) fn metrics_in_code(sources: &Sources) -> BTreeSet<(String, &str)> {
    let shipping = sources.iter().filter(|(file, _)| file.contains("/src/") && !file.starts_with("tests/"));
    let mut found = BTreeSet::new();
    for (file, text) in shipping {
        found.extend(
            strings(&code(text)).into_iter().filter(|word| is_metric(word)).map(|word| (word, file.as_str())),
        );
    }
    found
}

/// The names of metrics in a document. The series of a histogram count as the histogram.
pub(crate) fn metrics_in_text(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let parts = ["_bucket", "_count", "_sum"];
    let words = words.map(|word| parts.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word));
    words.filter(|word| is_metric(word)).map(str::to_owned).collect()
}

/// The names of the series of the metrics in the tables of a document: three for each histogram.
pub(crate) fn series_in_tables(text: &str) -> BTreeSet<String> {
    fn row(line: &str) -> Option<(&str, &str)> {
        let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
        // A footnote mark may follow a name.
        Some((name, rest.split_once("| ")?.1))
    }
    let rows = text.lines().filter_map(row);
    let names = |(name, rest): (&str, &str)| {
        let parts: &[_] = if rest.starts_with("histogram") { &["_bucket", "_count", "_sum"] } else { &[""] };
        parts.iter().map(|part| format!("{name}{part}")).collect::<Vec<_>>()
    };
    rows.flat_map(names).filter(|name| is_metric(name)).collect()
}

/// The names of the series that rules record.
pub(crate) fn recorded(rules: &str) -> BTreeSet<String> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect()
}

/// The headings of the second level of a document.
pub(crate) fn headings(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.trim().to_owned())
        .collect()
}

/// The names of alerts.
pub(crate) fn alerts(rules: &str) -> BTreeSet<String> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

/// Whether tests of rules have a case in which `alert` fires, and one in which it does not.
pub(crate) fn is_tested_both_ways(tests: &str, alert: &str) -> [bool; 2] {
    let name = format!("alertname: {alert}\n");
    let expected: Vec<_> = tests.split(&name).skip(1).map(str::trim_start).collect();
    [
        expected.iter().any(|rest| rest.starts_with("exp_alerts:\n")),
        expected.iter().any(|rest| rest.starts_with("exp_alerts: []\n")),
    ]
}

/// `canopy_gateway_requests_total` is the name of a metric; `canopy_gateway` is a crate, and `canopy_` is not a name.
fn is_metric(word: &str) -> bool {
    let parts: Vec<_> = word.split('_').collect();
    let plain = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    parts[0] == "canopy" && parts.len() > 2 && parts.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crates_and_test_code_are_not_metrics() {
        let text = r#"const A: &str = "canopy_a_total"; f("canopy_gateway=debug", "canopy_gateway", "x_canopy_b");
            #[cfg(test)] mod tests { const B: &str = "canopy_b_total"; }"#;
        let sources =
            ["gateway/src/m.rs", "tests/src/m.rs"].map(|file| (file.to_owned(), text.to_owned())).into();
        assert_eq!(metrics_in_code(&sources), [("canopy_a_total".to_owned(), "gateway/src/m.rs")].into());
    }

    #[test]
    fn metrics_and_headings_of_a_document_are_found() {
        let text = "# Title\n## not_ready \n| `canopy_a_total{M}` | rate(canopy_b_seconds_count[5m]) in canopy_gateway |\n### deeper";
        assert_eq!(headings(text), ["not_ready".to_owned()].into());
        assert_eq!(metrics_in_text(text), ["canopy_a_total", "canopy_b_seconds"].map(str::to_owned).into());
    }

    #[test]
    fn a_histogram_has_three_series() {
        let text = "| metric | type |\n| `canopy_a_total` | counter | M |\n| `canopy_b_seconds` | histogram, 1 s | |\n| `process_*` | | |";
        let expected =
            ["canopy_a_total", "canopy_b_seconds_bucket", "canopy_b_seconds_count", "canopy_b_seconds_sum"];
        assert_eq!(series_in_tables(text), expected.map(str::to_owned).into());
        assert_eq!(recorded("rules:\n  - record: a:b\n- alert: A\n"), ["a:b".to_owned()].into());
    }

    #[test]
    fn an_alert_is_tested_when_it_fires_and_when_it_does_not() {
        assert_eq!(alerts("rules:\n- record: a:b\n  - alert: A\n"), ["A".to_owned()].into());
        let fires = "alertname: A\n    exp_alerts:\n    - exp_labels: {}\n";
        let is_quiet = "alertname: A\n    exp_alerts: []\n";
        let check = |tests: &str, expected: [bool; 2]| {
            assert_eq!(is_tested_both_ways(tests, "A"), expected, "{tests}");
        };
        check("", [false, false]);
        check(fires, [true, false]);
        check(is_quiet, [false, true]);
        check(&format!("{is_quiet}{fires}"), [true, true]);
        check(&is_quiet.replace('A', "AB"), [false, false]);
    }
}
