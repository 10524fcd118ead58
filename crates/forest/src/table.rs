//! A table as bytes of comma-separated values, read once into samples.
//!
//! Comes in: bytes that anybody may have written. Goes out: [`Samples`], or the first fault with its row and
//! column. Never: a guess of what a cell was meant to be.

use std::collections::HashMap;

use csv::{Position, Reader, ReaderBuilder, StringRecord, Trim};

use crate::data::{CLASSES_MAX, ClassNames, DataError, ROWS_MAX, Samples};

/// How much of a cell or of a list of columns an error shows.
const SHOWN_MAX: usize = 60;

impl Samples {
    /// Reads comma-separated values (RFC 4180, UTF-8): a header, then a row per sample. Every column but
    /// `target` is a feature and has only finite numbers.
    ///
    /// Where the targets are exactly the whole numbers 0 to k - 1, the classes have no names; otherwise the
    /// different targets are the classes' names.
    pub fn from_csv(bytes: &[u8], target: &str) -> Result<Self, DataError> {
        let mut reader = ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(bytes);
        let header = Header::read(&mut reader, bytes, target)?;
        let mut values = Vec::new();
        let mut labels = Labels::default();
        let mut record = StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| not_utf8(bytes, &error))? {
            let row = labels.of_rows.len() + 1;
            if row > ROWS_MAX {
                return Err(DataError::TooManyRows);
            }
            let line = line_of(bytes, record.position());
            let place = Place { header: &header, row, line };
            place.check_length(&record)?;
            for (column, cell) in record.iter().enumerate() {
                if column == header.target {
                    labels.push(place.label(cell)?);
                } else {
                    values.push(place.number(column, cell)?);
                }
            }
        }
        let (classes, targets) = labels.classes(target)?;
        Ok(Self { features: header.into_features(), values, targets, classes })
    }
}

struct Header {
    columns: Vec<String>,
    target: usize,
}

impl Header {
    fn read(reader: &mut Reader<&[u8]>, bytes: &[u8], target: &str) -> Result<Self, DataError> {
        let columns: Vec<String> =
            reader.headers().map_err(|error| not_utf8(bytes, &error))?.iter().map(str::to_owned).collect();
        if columns.is_empty() {
            return Err(DataError::NoHeader);
        }
        if let Some(index) = columns.iter().position(String::is_empty) {
            return Err(DataError::UnnamedColumn { position: index + 1 });
        }
        let mut sorted: Vec<&String> = columns.iter().collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(DataError::DuplicateColumn { column: shown(pair[0]) });
        }
        let Some(index) = columns.iter().position(|column| column == target) else {
            return Err(DataError::NoTarget { target: shown(target), found: shown(&columns.join(", ")) });
        };
        if columns.len() == 1 {
            return Err(DataError::NoFeatures { target: shown(target) });
        }
        Ok(Self { columns, target: index })
    }

    fn into_features(mut self) -> Vec<String> {
        self.columns.remove(self.target);
        self.columns
    }
}

/// Where the reader is.
struct Place<'a> {
    header: &'a Header,
    row: usize,
    line: u64,
}

impl Place<'_> {
    fn check_length(&self, record: &StringRecord) -> Result<(), DataError> {
        let (expected, found) = (self.header.columns.len(), record.len());
        if expected == found {
            return Ok(());
        }
        Err(DataError::Ragged { row: self.row, line: self.line, expected, found })
    }

    fn number(&self, column: usize, cell: &str) -> Result<f64, DataError> {
        self.check_filled(column, cell)?;
        match cell.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err(self.not_finite(column, cell)),
            Err(_) => {
                let column = self.column(column);
                Err(DataError::NotANumber { row: self.row, line: self.line, column, text: shown(cell) })
            }
        }
    }

    /// A class may be called anything but what other programs write where they know none.
    fn label<'c>(&self, cell: &'c str) -> Result<&'c str, DataError> {
        self.check_filled(self.header.target, cell)?;
        match cell.parse::<f64>() {
            Ok(number) if !number.is_finite() => Err(self.not_finite(self.header.target, cell)),
            Ok(_) | Err(_) => Ok(cell),
        }
    }

    fn check_filled(&self, column: usize, cell: &str) -> Result<(), DataError> {
        if cell.is_empty() {
            let column = self.column(column);
            return Err(DataError::EmptyCell { row: self.row, line: self.line, column });
        }
        Ok(())
    }

    fn not_finite(&self, column: usize, cell: &str) -> DataError {
        let column = self.column(column);
        DataError::NotFinite { row: self.row, line: self.line, column, text: shown(cell) }
    }

    fn column(&self, index: usize) -> String {
        shown(&self.header.columns[index])
    }
}

/// The targets as they are written, each different one kept once.
#[derive(Default)]
struct Labels {
    texts: Vec<String>,
    indices: HashMap<String, usize>,
    of_rows: Vec<usize>,
}

impl Labels {
    fn push(&mut self, text: &str) {
        let index = if let Some(&index) = self.indices.get(text) {
            index
        } else {
            self.indices.insert(text.to_owned(), self.texts.len());
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        };
        self.of_rows.push(index);
    }

    /// The classes, and the class of each row.
    fn classes(self, target: &str) -> Result<(ClassNames, Vec<usize>), DataError> {
        let Self { texts, of_rows, .. } = self;
        // Numbers are one class when they are equal, however they are written.
        let numbers: Option<Vec<f64>> = texts.iter().map(|text| text.parse().ok()).collect();
        let (names, class_of_text) = match &numbers {
            Some(numbers) => ranked(numbers, f64::total_cmp, |&number| (number + 0.0).to_string()),
            None => ranked(&texts, String::cmp, String::clone),
        };
        match &names[..] {
            [] => return Err(DataError::NoRows),
            [class] => return Err(DataError::OneClass { class: shown(class) }),
            [..] if names.len() > CLASSES_MAX => {
                return Err(DataError::TooManyClasses { target: shown(target) });
            }
            [..] => {}
        }
        let targets = of_rows.into_iter().map(|text| class_of_text[text]).collect();
        let are_indices =
            numbers.is_some() && names.iter().enumerate().all(|(i, name)| *name == i.to_string());
        let classes = if are_indices { ClassNames::Unnamed(names.len()) } else { ClassNames::Named(names) };
        Ok((classes, targets))
    }
}

/// The names of the different `labels` in their order, and for each label the index of its name.
fn ranked<T>(
    labels: &[T],
    compare: impl Fn(&T, &T) -> std::cmp::Ordering,
    name: impl Fn(&T) -> String,
) -> (Vec<String>, Vec<usize>) {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| compare(&labels[a], &labels[b]));
    let mut names: Vec<String> = Vec::new();
    let mut ranks = vec![0; labels.len()];
    for index in order {
        let name = name(&labels[index]);
        if names.last() != Some(&name) {
            names.push(name);
        }
        ranks[index] = names.len() - 1;
    }
    (names, ranks)
}

/// Bytes in memory, read with rows of any length, can fail by nothing but their encoding.
fn not_utf8(bytes: &[u8], error: &csv::Error) -> DataError {
    DataError::NotUtf8 { line: line_of(bytes, error.position()) }
}

/// The line a row begins on: the reader's position is before the empty lines, and the rest of the line end, that
/// may come first.
fn line_of(bytes: &[u8], position: Option<&Position>) -> u64 {
    let Some(position) = position else { return 1 };
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + skipped.filter(|&&byte| byte == b'\n').count() as u64
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        for text in ["class,a\n1,0\n0,0\n2,0\n1,0\n", "class,a\n1.0,0\n-0,0\n2e0,0\n1,0\n"] {
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
    fn quotes_a_byte_order_mark_and_any_line_end_are_understood() {
        let samples = read("\u{feff}class,\"a,\nb\"\r\n\"x \"\"y\",1\r\nz,2\r\n");
        assert_eq!(samples.features(), ["a,\nb"]);
        assert_eq!(samples.classes(), &ClassNames::Named(vec!["x \"y".into(), "z".into()]));
    }

    #[test]
    fn a_header_with_a_fault_is_refused() {
        check_error("", "data has no header: its first line must name the columns");
        check_error("\n\n", "data has no header: its first line must name the columns");
        check_error("a,,class\n", "column 2 of the header has no name: name every column");
        check_error("a,class,a\n", "column a is in the header twice: give each column a name of its own");
        check_error(
            "a;b;Class\n",
            "target column class is not in the header, which has a;b;Class: name one of these",
        );
        check_error(
            "class\nx\ny\n",
            "data has no feature: beside the target column class it needs at least one more",
        );
    }

    #[test]
    fn a_cell_with_a_fault_is_told_with_its_row_line_and_column() {
        let header = "a,class,b\n1,x,2\n\n";
        for (row, expected) in [
            ("3,y", "row 2 (line 4) has 2 cells, but the header has 3"),
            ("3,y,4,5", "row 2 (line 4) has 4 cells, but the header has 3"),
            ("3,y,", "row 2 (line 4) has nothing in column b: give a value or leave the row out"),
            ("3, ,4", "row 2 (line 4) has nothing in column class: give a value or leave the row out"),
            ("?,y,4", "row 2 (line 4) column a must be a number, but is \"?\""),
            ("3,y,0x10", "row 2 (line 4) column b must be a number, but is \"0x10\""),
            ("NaN,y,4", "row 2 (line 4) column a must be a finite number, but is \"NaN\""),
            ("3,y,-inf", "row 2 (line 4) column b must be a finite number, but is \"-inf\""),
            ("3,y,1e999", "row 2 (line 4) column b must be a finite number, but is \"1e999\""),
            ("3,nan,4", "row 2 (line 4) column class must be a finite number, but is \"nan\""),
        ] {
            check_error(format!("{header}{row}\n"), expected);
        }
        let long = format!("a,class\n{},x\n", "é".repeat(1000));
        check_error(
            long,
            &format!("row 1 (line 2) column a must be a number, but is \"{}…\"", "é".repeat(60)),
        );
    }

    #[test]
    fn the_line_is_right_after_cells_of_several_lines_empty_lines_and_any_line_end() {
        let expected = "row 2 (line 6) column a must be a number, but is \"z\"";
        check_error("a,class\n\n1,\"x\ny\"\n\nz,w\n", expected);
        check_error("\u{feff}a,class\r\n\r\n1,\"x\r\ny\"\r\n\r\nz,w\r\n", expected);
    }

    #[test]
    fn too_few_or_too_many_classes_are_refused() {
        check_error("a,class\n", "data has no rows: it needs rows of at least two classes");
        check_error("a,class\n1,x\n2,x\n", "all rows have the class x: a classifier needs at least two");
        check_error("a,class\n1,1\n2,1.0\n", "all rows have the class 1: a classifier needs at least two");
        let measures: Vec<String> = (0..257).map(|i| format!("1,{i}.5\n")).collect();
        check_error(
            format!("a,class\n{}", measures.concat()),
            "column class has more than 256 different values: a target must be a class, not a measure",
        );
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
        fn any_cells_give_an_error_or_samples_that_keep_their_promise(
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
