//! The annotation with the revisions that served before and the times they stopped serving, such as
//! `6f3a9c1e=2026-05-04T03:02:01Z`.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// The revisions that served before, with the time each stopped serving.
pub type Retired = BTreeMap<String, Timestamp>;

/// Formats the annotation. Times are whole seconds, as in the API server, so the text stays the same.
pub fn as_text(retired: &Retired) -> String {
    retired.iter().map(|(revision, since)| format!("{revision}={since:.0}")).collect::<Vec<_>>().join(",")
}

/// Parses the annotation. Unreadable entries are ignored: the operator did not write them.
pub fn read(text: &str) -> Retired {
    let entries = text.split(',').filter_map(|entry| entry.split_once('='));
    entries.filter_map(|(revision, since)| Some((revision.to_owned(), since.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_round_trips_and_invalid_entries_are_ignored() {
        let since = |text: &str| text.parse::<Timestamp>().unwrap();
        let retired = Retired::from([
            ("6f3a9c1e".to_owned(), since("2026-05-04T03:02:01Z")),
            ("91bd0207".to_owned(), since("2026-05-04T03:04:00Z")),
        ]);
        let text = as_text(&retired);
        assert_eq!(text, "6f3a9c1e=2026-05-04T03:02:01Z,91bd0207=2026-05-04T03:04:00Z");
        assert_eq!(read(&text), retired);
        assert_eq!(read("6f3a9c1e=soon,,=,x"), Retired::new());
    }
}
