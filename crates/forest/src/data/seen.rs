//! Text of a table in error messages: quoted, escaped and limited in length. It can be hidden from readers who may not be
//! allowed to read the table.

use std::fmt;

/// The most characters of a text in a message.
const SHOWN_MAX: usize = 60;
/// The most names of a list in a message.
const NAMES_MAX: usize = 20;
/// The most characters of a list in a message.
const LIST_MAX: usize = 300;

/// A cell, or the name of a column or a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen(Option<String>);

impl Seen {
    /// Wraps a text.
    pub fn new(text: &str) -> Self {
        Self(Some(match text.char_indices().nth(SHOWN_MAX) {
            Some((cut, _)) => format!("{}…", &text[..cut]),
            None => text.to_owned(),
        }))
    }

    /// Hides the text.
    pub fn hide(&mut self) {
        self.0 = None;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(text) => write!(f, "{text:?}"),
            None => f.write_str("(not shown)"),
        }
    }
}

/// A column of a table: its name, and its position, which is shown if the name is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: Seen,
    position: usize,
}

impl Column {
    /// The column at `index`, counted from 0.
    pub fn new(name: &str, index: usize) -> Self {
        Self { name: Seen::new(name), position: index + 1 }
    }

    /// Hides the name.
    pub fn hide(&mut self) {
        self.name.hide();
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Seen(None) => write!(f, "column {}", self.position),
            name @ Seen(Some(_)) => write!(f, "column {name}"),
        }
    }
}

/// A list of names. A long list is cut, and ends with the number of names that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    shown: Option<String>,
    count: usize,
}

impl Names {
    /// These names, in their order.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut shown, mut left_out, mut count) = (String::new(), 0, 0);
        for name in names {
            count += 1;
            if count > NAMES_MAX || shown.len() > LIST_MAX {
                left_out += 1;
            } else {
                let comma = if shown.is_empty() { "" } else { ", " };
                shown = format!("{shown}{comma}{}", Seen::new(name));
            }
        }
        if left_out > 0 {
            shown = format!("{shown} and {left_out} more");
        }
        Self { shown: Some(shown), count }
    }

    /// Hides the names.
    pub fn hide(&mut self) {
        self.shown = None;
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some(shown) => f.write_str(shown),
            None => write!(f, "{} of them", self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_escaped_and_cut() {
        assert_eq!(Seen::new("y ").to_string(), "\"y \"");
        assert_eq!(Seen::new("a\u{1b}[31m\n").to_string(), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(Seen::new(&"é".repeat(61)).to_string(), format!("\"{}…\"", "é".repeat(60)));
        assert_eq!(Column::new("a", 2).to_string(), "column \"a\"");
    }

    #[test]
    fn a_list_says_how_many_names_it_leaves_out() {
        assert_eq!(Names::new(["a", "b"]).to_string(), "\"a\", \"b\"");
        let many: Vec<String> = (0..25).map(|name| name.to_string()).collect();
        let shown = Names::new(many.iter().map(String::as_str)).to_string();
        assert!(shown.starts_with("\"0\", \"1\", ") && shown.ends_with(", \"19\" and 5 more"), "{shown}");
        let long = vec!["x".repeat(200); 16];
        let shown = Names::new(long.iter().map(String::as_str)).to_string();
        assert!(shown.len() < 500 && shown.ends_with(" and 11 more"), "{shown}");
    }

    #[test]
    fn hidden_text_is_not_shown() {
        let (mut seen, mut column, mut names) =
            (Seen::new("secret"), Column::new("secret", 2), Names::new(["secret", "secret"]));
        seen.hide();
        column.hide();
        names.hide();
        assert_eq!(
            [seen.to_string(), column.to_string(), names.to_string()],
            ["(not shown)", "column 3", "2 of them"]
        );
    }
}
