//! Reads a CSV table into samples. Invalid input is refused with the row, line and column of its first error; no value is
//! imputed.

use std::borrow::Cow;

use crate::data::cells::{self, Lines};
use crate::data::error::DataError;
use crate::data::labels::{Labels, Place};
use crate::data::precision::{RoundedCells, is_rounded};
use crate::data::samples::{NAME_MAX, ROWS_MAX, Samples};
use crate::data::seen::{Column, Names, Seen};

impl Samples {
    /// Reads comma-separated values (RFC 4180, UTF-8, one row a line): a header, then one row per sample. Every column
    /// except `target` is a feature and must contain finite numbers.
    ///
    /// If the targets are exactly the whole numbers 0 to k - 1, the classes have no names; otherwise the distinct
    /// targets are the names of the classes.
    pub fn from_csv(bytes: &[u8], target: &str) -> Result<Self, DataError> {
        Self::from_csv_with_classes(bytes, target, &[])
    }

    /// Like [`Self::from_csv`], but the names in `listed` are classes even if they are markers of missing values.
    pub fn from_csv_with_classes(bytes: &[u8], target: &str, listed: &[String]) -> Result<Self, DataError> {
        let (mut lines, mut cells) = (Lines::new(bytes)?, Vec::new());
        if lines.read(&mut cells)?.is_none() {
            return Err(DataError::NoHeader);
        }
        let header = Header::new(&cells, target)?;
        let mut values = Vec::new();
        let mut labels = Labels::new((target, header.target), listed);
        let mut rounded: Vec<RoundedCells<'_>> = Vec::new();
        rounded.resize_with(header.columns.len(), RoundedCells::default);
        while let Some(line) = lines.read(&mut cells)? {
            let row = labels.len() + 1;
            if row > ROWS_MAX {
                return Err(DataError::TooManyRows);
            }
            let (expected, found) = (header.columns.len(), cells.len());
            if found != expected {
                return Err(DataError::Ragged { row, line, expected, found });
            }
            let place = Place { row, line };
            for (index, cell) in cells.iter().enumerate() {
                if index == header.target {
                    labels.push(cell, place)?;
                } else {
                    let number = header.number(cell, index, place)?;
                    if is_rounded(cell, number) {
                        rounded[index].push(row - 1, cell.clone());
                    }
                    values.push(number);
                }
            }
        }
        let (classes, targets) = labels.classes()?;
        rounded.remove(header.target);
        let features = header.into_features();
        let merged = rounded.iter().enumerate().filter_map(|(feature, cells)| {
            cells.merged(feature, values.iter().skip(feature).step_by(features.len()).copied())
        });
        let merged = merged.collect();
        Ok(Self { features, values, targets, classes, merged })
    }
}

struct Header {
    columns: Vec<String>,
    target: usize,
}

impl Header {
    fn new(cells: &[Cow<'_, str>], target: &str) -> Result<Self, DataError> {
        let columns: Vec<String> = cells.iter().map(|cell| cell.clone().into_owned()).collect();
        let Some(target_index) = columns.iter().position(|column| column == target) else {
            return Err(DataError::NoTarget {
                target: Seen::new(target),
                found: Names::new(columns.iter().map(String::as_str)),
                separator: cells::separator(cells, target),
                nearly: cells::nearly(cells, target).map(Seen::new),
            });
        };
        if let Some(index) = columns.iter().position(String::is_empty) {
            return Err(DataError::UnnamedColumn { position: index + 1 });
        }
        for (index, column) in columns.iter().enumerate() {
            let characters = column.chars().count();
            if characters > NAME_MAX {
                return Err(DataError::LongColumn { position: index + 1, characters });
            }
        }
        let mut sorted: Vec<(&String, usize)> = columns.iter().zip(0..).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(DataError::DuplicateColumn { column: Column::new(pair[1].0, pair[1].1) });
        }
        if columns.len() == 1 {
            return Err(DataError::NoFeatures { target: Seen::new(target) });
        }
        Ok(Self { columns, target: target_index })
    }

    fn number(&self, cell: &str, index: usize, Place { row, line }: Place) -> Result<f64, DataError> {
        let column = || Column::new(&self.columns[index], index);
        if cell.is_empty() {
            return Err(DataError::EmptyCell { row, line, column: column() });
        }
        match cell.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err(DataError::NotFinite { row, line, column: column(), text: Seen::new(cell) }),
            Err(_) => Err(DataError::NotANumber { row, line, column: column(), text: Seen::new(cell) }),
        }
    }

    fn into_features(mut self) -> Vec<String> {
        self.columns.remove(self.target);
        self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::ClassNames;
    use proptest::prelude::*;

    fn read(text: &str) -> Samples {
        Samples::from_csv(text.as_bytes(), "class").unwrap()
    }

    #[track_caller]
    fn check_error(text: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(Samples::from_csv(text.as_ref(), "class").unwrap_err().to_string(), expected);
    }

    #[test]
    fn rows_features_and_named_classes_are_read_in_order() {
        let samples = read("a,class,b\n1,dog,-2.5\n3e2,cat,.5\n\n 0 , dog , +7 \n");
        assert_eq!(samples.features(), ["a", "b"]);
        assert_eq!(samples.rows().collect::<Vec<_>>(), [[1.0, -2.5], [300.0, 0.5], [0.0, 7.0]]);
        assert_eq!(samples.classes(), &ClassNames::Named(vec!["cat".into(), "dog".into()]));
        assert_eq!(samples.targets(), [1, 0, 1]);
        assert_eq!(samples.len(), 3);
    }

    #[test]
    fn whole_numbers_from_0_are_classes_without_names() {
        for text in ["class,a\n1,0\n0,0\n2,0\n1,0\n", "class,a\n1.0,0\n0,0\n2.00,0\n1,0\n"] {
            let samples = read(text);
            assert_eq!(samples.classes(), &ClassNames::Unnamed(3), "{text}");
            assert_eq!(samples.targets(), [1, 0, 2, 1], "{text}");
        }
    }

    #[test]
    fn other_numbers_are_names_in_the_order_of_their_values() {
        let samples = read("class,a\n10,0\n2,0\n2.0,0\n-1,0\n");
        assert_eq!(samples.classes(), &ClassNames::Named(vec!["-1".into(), "2".into(), "10".into()]));
        assert_eq!(samples.targets(), [2, 1, 1, 0]);
        let gap = read("class,a\n0,0\n2,0\n");
        assert_eq!(gap.classes(), &ClassNames::Named(vec!["0".into(), "2".into()]));
        let mixed = read("class,a\n0,0\n1,0\nx,0\n");
        assert_eq!(mixed.classes(), &ClassNames::Named(vec!["0".into(), "1".into(), "x".into()]));
    }

    #[test]
    fn quotes_a_byte_order_mark_and_any_line_end_are_read() {
        let samples = read("\u{feff}class, \"a,b\" \r\n\"x \"\"y\",1\r\nz,2\r\n");
        assert_eq!(samples.features(), ["a,b"]);
        assert_eq!(samples.classes(), &ClassNames::Named(vec!["x \"y".into(), "z".into()]));
    }

    #[test]
    fn a_wrong_header_is_refused() {
        check_error("", "data has no header: its first line must name the columns");
        check_error("\n\n", "data has no header: its first line must name the columns");
        check_error(
            ",a,class\n",
            "column 1 of the header has no name: name every column (pandas writes such a column of row numbers \
             unless to_csv is given index=False)",
        );
        check_error(
            format!("a,{},class\n", "b".repeat(129)),
            "column 2 of the header has a name of 129 characters, but at most 128 are allowed",
        );
        check_error("a,class,a\n", "column \"a\" is in the header twice: give each column a unique name");
        let missing = "target column \"class\" is not in the header, which has";
        for (header, rest) in [
            ("a,b,\u{1b}[1m", "\"a\", \"b\", \"\\u{1b}[1m\": name one of these"),
            (
                "a;b;class",
                "\"a;b;class\": its cells are separated by ';', so separate them by commas instead",
            ),
            (
                "a\tclass",
                "\"a\\tclass\": its cells are separated by '\\t', so separate them by commas instead",
            ),
            ("a,Class", "\"a\", \"Class\": name \"Class\" if that column is meant (case and spaces matter)"),
        ] {
            check_error(format!("{header}\n"), &format!("{missing} {rest}"));
        }
        let spaces = Samples::from_csv(b"a,y\n", "y ").unwrap_err().to_string();
        assert_eq!(
            spaces,
            "target column \"y \" is not in the header, which has \"a\", \"y\": name \"y\" if that column \
             is meant (case and spaces matter)"
        );
        check_error(
            "class\nx\ny\n",
            "data has no feature: it needs at least one column besides the target column \"class\"",
        );
    }

    #[test]
    fn a_wrong_cell_is_refused_with_its_row_line_and_column() {
        let header = "a,class,b\n1,x,2\n\n";
        for (row, expected) in [
            ("3,y", "row 2 (line 4) has 2 cells, but the header has 3"),
            ("3,y,4,5", "row 2 (line 4) has 4 cells, but the header has 3"),
            ("3,y,", "row 2 (line 4) has no value in column \"b\": fill in a value or remove the row"),
            ("3, ,4", "row 2 (line 4) has no value in column \"class\": fill in a value or remove the row"),
            ("?,y,4", "row 2 (line 4) column \"a\" must be a number, but is \"?\""),
            ("3,y,0x10", "row 2 (line 4) column \"b\" must be a number, but is \"0x10\""),
            ("NaN,y,4", "row 2 (line 4) column \"a\" must be a finite number, but is \"NaN\""),
            ("3,y,-inf", "row 2 (line 4) column \"b\" must be a finite number, but is \"-inf\""),
            ("3,y,1e999", "row 2 (line 4) column \"b\" must be a finite number, but is \"1e999\""),
            (
                "3,\"y,4",
                "line 4 column 2: a quote opens a cell that does not end on this line: one row is one line, so \
             close the quote, or write a quote inside a quoted cell twice",
            ),
        ] {
            check_error(format!("{header}{row}\n"), expected);
        }
        let long = format!("a,class\n{},x\n", "é".repeat(1000));
        check_error(
            long,
            &format!("row 1 (line 2) column \"a\" must be a number, but is \"{}…\"", "é".repeat(60)),
        );
    }

    #[test]
    fn the_line_is_right_after_empty_lines_and_any_line_end() {
        let expected = "row 2 (line 5) column \"a\" must be a number, but is \"z\"";
        check_error("a,class\n\n1,x\n\nz,w\n", expected);
        check_error("\u{feff}a,class\r\n\r\n1,x\r\n\r\nz,w\r\n", expected);
        check_error("a,class\r\r1,x\r\rz,w", expected);
    }

    #[test]
    fn a_quote_that_is_never_closed_swallows_no_row() {
        let row = |row: usize| if row == 20 { "3,\"p\n".to_owned() } else { format!("{row},{}\n", row % 2) };
        let rows: String = (1..1001).map(row).collect();
        check_error(
            format!("a,class\n{rows}"),
            "line 21 column 2: a quote opens a cell that does not end on this line: one row is one line, so close \
             the quote, or write a quote inside a quoted cell twice",
        );
    }

    #[test]
    fn a_listed_class_may_look_like_a_missing_value() {
        let listed = ["?".to_owned(), "x".to_owned()];
        let samples = Samples::from_csv_with_classes(b"a,class\n1,?\n2,x\n", "class", &listed).unwrap();
        assert_eq!(samples.classes(), &ClassNames::Named(listed.to_vec()));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused_with_their_line() {
        check_error(b"a,cl\xe9\n", "data is not UTF-8 at line 1: save the file as UTF-8");
        check_error(b"a,class\n1,x\n2,\xff\n", "data is not UTF-8 at line 3: save the file as UTF-8");
    }

    proptest! {
        #[test]
        fn any_bytes_give_samples_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Samples::from_csv(&bytes, "class"));
        }

        #[test]
        fn any_cells_give_an_error_or_valid_samples(
            body in r#"([ab"0-9.eE+-]{0,4}[,\n\r]|nan,|inf\n|,x\n|,y\n|1,x\n){0,40}"#,
        ) {
            if let Ok(samples) = Samples::from_csv(format!("a,class\n{body}").as_bytes(), "class") {
                prop_assert!(samples.classes().len() >= 2);
                prop_assert_eq!(samples.values().len(), samples.len());
                prop_assert!(samples.values().iter().all(|value| value.is_finite()));
                prop_assert!(samples.targets().iter().all(|&class| class < samples.classes().len()));
            }
        }

        #[test]
        fn what_was_written_is_read(rows in prop::collection::vec((prop::num::f64::NORMAL, 0..3_usize), 0..20)) {
            let rows: Vec<_> = (0..3).map(|class| (0.0, class)).chain(rows).collect();
            let text: Vec<String> = rows.iter().map(|(value, class)| format!("{value:e},{class}\n")).collect();
            let samples = Samples::from_csv(format!("a,class\n{}", text.concat()).as_bytes(), "class").unwrap();
            prop_assert_eq!(samples.classes(), &ClassNames::Unnamed(3));
            let read: Vec<_> = samples.values().iter().copied().zip(samples.targets().iter().copied()).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
