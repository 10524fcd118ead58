//! The revisions that served before, and since when they do not.
//!
//! Comes in and goes out: the text of an annotation, such as `6f3a9c1e=2026-05-04T03:02:01Z`. Never: an error; what
//! cannot be read was not written by the operator and counts as nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Since when each revision no longer serves.
pub type Retired = BTreeMap<String, Timestamp>;

/// The text of an annotation. The API server keeps it as it is, so whole seconds are enough and stay the same.
pub fn as_text(retired: &Retired) -> String {
    retired.iter().map(|(revision, since)| format!("{revision}={since:.0}")).collect::<Vec<_>>().join(",")
}

/// What an annotation says.
pub fn read(text: &str) -> Retired {
    let entries = text.split(',').filter_map(|entry| entry.split_once('='));
    entries.filter_map(|(revision, since)| Some((revision.to_owned(), since.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_anything_else_is_nothing() {
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
