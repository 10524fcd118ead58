//! Why a table cannot be used as training data. Rows count from 1 below the header, lines from the first line of the file.

use thiserror::Error;

use crate::data::samples::{CLASSES_MAX, NAME_MAX, ROWS_MAX};
use crate::data::seen::{Column, Names, Seen};

/// Why a table or its samples are refused. `row` counts the rows below the header from 1, `line` the lines of the file.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DataError {
    /// The bytes are a file of another kind.
    #[error("data is {kind}, but it must be a CSV file: {advice}")]
    OtherKind {
        /// What it is.
        kind: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The bytes are not UTF-8.
    #[error("data is not UTF-8 at line {line}: save the file as UTF-8")]
    NotUtf8 {
        /// The line.
        line: u64,
    },
    /// The first line is `sep=`, which only Excel reads.
    #[error("line 1 is for Excel only (sep=): remove it, and separate cells by commas")]
    SeparatorLine,
    /// A quoted cell is not closed on its line.
    #[error(
        "line {line} column {column}: a quote opens a cell that does not end on this line: one row is one line, so \
         close the quote, or write a quote inside a quoted cell twice"
    )]
    OpenQuote {
        /// The line on which it opens.
        line: u64,
        /// The place of its column, from 1.
        column: usize,
    },
    /// Text follows the closing quote of a cell.
    #[error("line {line} column {column}: {}", after_quote(*separator))]
    AfterQuote {
        /// The line.
        line: u64,
        /// The place of the column, from 1.
        column: usize,
        /// The separator of another format, if one follows.
        separator: Option<char>,
    },
    /// The file has no line.
    #[error("data has no header: its first line must name the columns")]
    NoHeader,
    /// A column has no name.
    #[error(
        "column {position} of the header has no name: name every column (pandas writes such a column of row numbers \
         unless to_csv is given index=False)"
    )]
    UnnamedColumn {
        /// Its place, from 1.
        position: usize,
    },
    /// A column has a name that is too long.
    #[error(
        "column {position} of the header has a name of {characters} characters, but at most {NAME_MAX} are allowed"
    )]
    LongColumn {
        /// Its place, from 1.
        position: usize,
        /// How long the name is.
        characters: usize,
    },
    /// Two columns have the same name.
    #[error("{column} is in the header twice: give each column a unique name")]
    DuplicateColumn {
        /// The second of them.
        column: Column,
    },
    /// No column has the name of the target.
    #[error("target column {target} is not in the header, which has {found}{}", advice(*separator, nearly.as_ref()))]
    NoTarget {
        /// The name that was looked for.
        target: Seen,
        /// The names in the header.
        found: Names,
        /// Another separator with which the header has the target.
        separator: Option<char>,
        /// A name that differs only in surrounding spaces and case.
        nearly: Option<Seen>,
    },
    /// The target is the only column.
    #[error("data has no feature: it needs at least one column besides the target column {target}")]
    NoFeatures {
        /// The target column.
        target: Seen,
    },
    /// A row is shorter or longer than the header.
    #[error("row {row} (line {line}) has {found} cells, but the header has {expected}")]
    Ragged {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// How many cells the header has.
        expected: usize,
        /// How many the row has.
        found: usize,
    },
    /// A cell is empty.
    #[error("row {row} (line {line}) has no value in {column}: fill in a value or remove the row")]
    EmptyCell {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: Column,
    },
    /// A cell of a feature is not a number.
    #[error("row {row} (line {line}) {column} must be a number, but is {text}")]
    NotANumber {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: Column,
        /// What the cell has.
        text: Seen,
    },
    /// A cell is NaN, an infinity, or a number beyond the largest 64-bit float.
    #[error("row {row} (line {line}) {column} must be a finite number, but is {text}")]
    NotFinite {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: Column,
        /// What the cell has.
        text: Seen,
    },
    /// A target is a common marker of a missing value.
    #[error(
        "row {row} (line {line}) target {column} has {text}, a common marker of a missing value: remove \
         the row, or list this name under classes if it is a class"
    )]
    MissingLabel {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: Column,
        /// What the cell has.
        text: Seen,
    },
    /// A class has a name that is too long.
    #[error(
        "row {row} (line {line}) {column} has a class name of {characters} characters, but at most {NAME_MAX} are \
         allowed"
    )]
    LongLabel {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: Column,
        /// How long the name is.
        characters: usize,
    },
    /// Two targets are spellings of the same number, but not all targets are plain whole numbers.
    #[error(
        "row {row} (line {line}) {column} has {text}, which is the same number as the class {other}: write \
         it in the same way in all rows (classes are compared as text, because not all of them are plain whole numbers)"
    )]
    SameNumber {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: Column,
        /// What the cell has.
        text: Seen,
        /// What an earlier row has.
        other: Seen,
    },
    /// The table has a header, but no rows.
    #[error("data has no rows: it needs rows of at least two classes")]
    NoRows,
    /// The table has more rows than the limit.
    #[error("data has more than {ROWS_MAX} rows: train on a part of them")]
    TooManyRows,
    /// All rows have the same class.
    #[error("all rows have the class {class}: a classifier needs at least two classes")]
    OneClass {
        /// The class.
        class: Seen,
    },
    /// The target has more classes than the limit.
    #[error(
        "column {target} has more than {CLASSES_MAX} different values, so it looks like a quantity or an id: a target \
         must be a class"
    )]
    TooManyClasses {
        /// The target column.
        target: Seen,
    },
    /// Synthetic data cannot be labelled by the sum of two features when there are fewer.
    #[error("synthetic data has {found} features, but needs at least 2")]
    TooFewFeatures {
        /// How many were requested.
        found: usize,
    },
    /// A split would leave one part without rows.
    #[error("{rows} rows cannot be split with {test_percent} percent held out: both parts need a row")]
    Unsplittable {
        /// How many rows there are.
        rows: usize,
        /// The requested share.
        test_percent: u32,
    },
    /// Each class has only one row.
    #[error(
        "{rows} rows cannot be split into rows to train on and rows to evaluate on: each class has one row \
         and needs at least two; the target may be a quantity or an id"
    )]
    OneRowEach {
        /// How many rows there are.
        rows: usize,
    },
}

impl DataError {
    /// The same error without text of the table, for readers who may not be allowed to read the table.
    #[must_use]
    pub fn without_contents(mut self) -> Self {
        match &mut self {
            Self::DuplicateColumn { column }
            | Self::EmptyCell { column, .. }
            | Self::LongLabel { column, .. } => column.hide(),
            Self::NoTarget { target: _, found, separator: _, nearly } => {
                found.hide();
                *nearly = None;
            }
            Self::NotANumber { column, text, .. }
            | Self::NotFinite { column, text, .. }
            | Self::MissingLabel { column, text, .. } => {
                column.hide();
                text.hide();
            }
            Self::SameNumber { column, text, other, .. } => {
                column.hide();
                text.hide();
                other.hide();
            }
            Self::OneClass { class } => class.hide(),
            // The target of these is the name in the spec, not text of the table.
            Self::NoFeatures { target: _ }
            | Self::TooManyClasses { target: _ }
            | Self::OtherKind { .. }
            | Self::NotUtf8 { .. }
            | Self::SeparatorLine
            | Self::OpenQuote { .. }
            | Self::AfterQuote { .. }
            | Self::NoHeader
            | Self::UnnamedColumn { .. }
            | Self::LongColumn { .. }
            | Self::Ragged { .. }
            | Self::NoRows
            | Self::TooManyRows
            | Self::TooFewFeatures { .. }
            | Self::Unsplittable { .. }
            | Self::OneRowEach { .. } => {}
        }
        self
    }
}

fn after_quote(separator: Option<char>) -> String {
    match separator {
        Some(separator) => {
            format!("{separator:?} follows the quote that ends a cell: separate cells by commas")
        }
        None => {
            "text follows the quote that ends a cell: write a quote inside a quoted cell twice".to_owned()
        }
    }
}

/// The advice for a target that is not in the header.
fn advice(separator: Option<char>, nearly: Option<&Seen>) -> String {
    match (separator, nearly) {
        (Some(separator), _) => {
            format!(": its cells are separated by {separator:?}, so separate them by commas instead")
        }
        (None, Some(nearly)) => {
            format!(": name {nearly} if that column is meant (case and spaces matter)")
        }
        (None, None) => ": name one of these".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_can_hide_every_text_of_the_table() {
        let column = || Column::new("secret", 1);
        let text = || Seen::new("secret");
        let (row, line, characters) = (1, 2, 3);
        let found = Names::new(["secret"]);
        for error in [
            DataError::DuplicateColumn { column: column() },
            DataError::NoTarget { target: Seen::new("y"), found, separator: None, nearly: Some(text()) },
            DataError::EmptyCell { row, line, column: column() },
            DataError::NotANumber { row, line, column: column(), text: text() },
            DataError::NotFinite { row, line, column: column(), text: text() },
            DataError::MissingLabel { row, line, column: column(), text: text() },
            DataError::LongLabel { row, line, column: column(), characters },
            DataError::SameNumber { row, line, column: column(), text: text(), other: text() },
            DataError::OneClass { class: text() },
        ] {
            assert!(error.to_string().contains("secret"), "{error}");
            let told = error.without_contents().to_string();
            assert!(!told.contains("secret"), "{told}");
        }
        let error = DataError::NotANumber { row, line, column: column(), text: text() };
        assert_eq!(
            error.without_contents().to_string(),
            "row 1 (line 2) column 2 must be a number, but is (not shown)"
        );
    }
}
