//! Reads the target column as classes. The name of a class is its text in the table, with one exception.
//!
//! If every target is a plain whole number, `7` and `7.0` are the same class, named `7`: pandas, for example, writes `7.0` for
//! `7` in a column with missing values.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::data::error::DataError;
use crate::data::samples::{CLASSES_MAX, ClassNames, NAME_MAX};
use crate::data::seen::{Column, Seen};

/// Markers of missing values: those of pandas, R, Weka and SQL, and a dash.
const MISSING: [&str; 23] = [
    "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "#N/A N/A", "NaN", "nan", "-NaN", "-nan", "NAN", "1.#QNAN",
    "-1.#QNAN", "1.#IND", "-1.#IND", "NULL", "null", "Null", "None", "?", "-", "NaT",
];
/// The most distinct texts: beyond this there are too many classes, even if some are spellings of the same number.
const TEXTS_MAX: usize = 16 * CLASSES_MAX;

/// The position of a target.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) row: usize,
    pub(crate) line: u64,
}

/// The targets as text; each distinct text is stored once.
pub(crate) struct Labels<'a> {
    /// The name of the target column, and its index.
    target: (&'a str, usize),
    /// Names that are classes even if they are markers of missing values.
    listed: &'a [String],
    texts: Vec<String>,
    /// The first position of each text.
    first: Vec<Place>,
    indices: HashMap<String, usize>,
    of_rows: Vec<usize>,
}

impl<'a> Labels<'a> {
    pub(crate) fn new(target: (&'a str, usize), listed: &'a [String]) -> Self {
        let (texts, first, of_rows) = (Vec::new(), Vec::new(), Vec::new());
        Self { target, listed, texts, first, indices: HashMap::new(), of_rows }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.of_rows.len()
    }

    pub(crate) fn push(&mut self, text: &str, place: Place) -> Result<(), DataError> {
        let index = if let Some(&index) = self.indices.get(text) {
            index
        } else {
            self.check(text, place)?;
            self.indices.insert(text.to_owned(), self.texts.len());
            self.texts.push(text.to_owned());
            self.first.push(place);
            self.texts.len() - 1
        };
        self.of_rows.push(index);
        Ok(())
    }

    /// Whether a text that was not seen before may be a class.
    fn check(&self, text: &str, Place { row, line }: Place) -> Result<(), DataError> {
        let characters = text.chars().count();
        if characters > NAME_MAX {
            return Err(DataError::LongLabel { row, line, column: self.column(), characters });
        }
        if text.is_empty() {
            return Err(DataError::EmptyCell { row, line, column: self.column() });
        }
        if MISSING.contains(&text) && !self.lists(text) {
            return Err(DataError::MissingLabel { row, line, column: self.column(), text: Seen::new(text) });
        }
        if self.texts.len() >= TEXTS_MAX {
            return Err(DataError::TooManyClasses { target: Seen::new(self.target.0) });
        }
        Ok(())
    }

    fn lists(&self, text: &str) -> bool {
        self.listed.iter().any(|listed| listed == text)
    }

    fn column(&self) -> Column {
        Column::new(self.target.0, self.target.1)
    }

    /// The classes, and the class of each row.
    pub(crate) fn classes(self) -> Result<(ClassNames, Vec<usize>), DataError> {
        self.check_infinities()?;
        let plain: Option<Vec<&str>> = self.texts.iter().map(|text| whole(text)).collect();
        let names = if let Some(plain) = &plain {
            plain.clone()
        } else {
            self.check_same_numbers()?;
            self.texts.iter().map(String::as_str).collect()
        };
        let (names, class_of_text) = ranked(&names);
        match &names[..] {
            [] => return Err(DataError::NoRows),
            [class] => return Err(DataError::OneClass { class: Seen::new(class) }),
            [..] if names.len() > CLASSES_MAX => {
                return Err(DataError::TooManyClasses { target: Seen::new(self.target.0) });
            }
            [..] => {}
        }
        let targets = self.of_rows.iter().map(|&text| class_of_text[text]).collect();
        let are_indices =
            plain.is_some() && names.iter().enumerate().all(|(index, name)| *name == index.to_string());
        let classes = if are_indices { ClassNames::Unnamed(names.len()) } else { ClassNames::Named(names) };
        Ok((classes, targets))
    }

    /// Refuses an infinity if all targets are numbers. Among other texts `inf` is a text.
    fn check_infinities(&self) -> Result<(), DataError> {
        let numbers: Option<Vec<f64>> = self.texts.iter().map(|text| text.parse().ok()).collect();
        let numbers = numbers.unwrap_or_default();
        let wrong = (0..numbers.len()).find(|&at| !numbers[at].is_finite() && !self.lists(&self.texts[at]));
        let Some(at) = wrong else { return Ok(()) };
        let (Place { row, line }, text) = (self.first[at], Seen::new(&self.texts[at]));
        Err(DataError::NotFinite { row, line, column: self.column(), text })
    }

    /// Refuses two spellings of one whole number, which would be two classes if classes are compared as text.
    fn check_same_numbers(&self) -> Result<(), DataError> {
        let mut known: HashMap<&str, &str> = HashMap::new();
        for (text, &Place { row, line }) in self.texts.iter().zip(&self.first) {
            let Some(number) = whole(text) else { continue };
            if let Some(other) = known.insert(number, text) {
                let (text, other) = (Seen::new(text), Seen::new(other));
                return Err(DataError::SameNumber { row, line, column: self.column(), text, other });
            }
        }
        Ok(())
    }
}

/// The digits of a plain whole number, without a fraction of zeros: an optional minus, and digits without leading zeros.
/// `None` for any other text.
pub fn whole(text: &str) -> Option<&str> {
    let number = match text.split_once('.') {
        Some((number, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => number,
        Some(_) => return None,
        None => text,
    };
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_plain = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (number == "0" || !digits.starts_with('0'));
    is_plain.then_some(number)
}

/// The distinct names in order, and the index of its name for each of `labels`.
fn ranked(labels: &[&str]) -> (Vec<String>, Vec<usize>) {
    let numbers: Option<Vec<f64>> = labels.iter().map(|label| label.parse().ok()).collect();
    let compare = |a: usize, b: usize| {
        let by_value = numbers.as_ref().map_or(Ordering::Equal, |numbers| numbers[a].total_cmp(&numbers[b]));
        // Numbers with more digits than a float holds are ordered by their text, which has the same length.
        let by_text = || {
            let by_length = match &numbers {
                Some(_) => labels[a].len().cmp(&labels[b].len()),
                None => Ordering::Equal,
            };
            by_length.then(labels[a].cmp(labels[b]))
        };
        by_value.then_with(by_text)
    };
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| compare(a, b));
    let mut names: Vec<String> = Vec::new();
    let mut ranks = vec![0; labels.len()];
    for index in order {
        if names.last().is_none_or(|last| last != labels[index]) {
            names.push(labels[index].to_owned());
        }
        ranks[index] = names.len() - 1;
    }
    (names, ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes_of(texts: &[&str], listed: &[&str]) -> Result<(ClassNames, Vec<usize>), String> {
        let listed: Vec<String> = listed.iter().map(|&name| name.to_owned()).collect();
        let mut labels = Labels::new(("y", 1), &listed);
        for (index, text) in texts.iter().enumerate() {
            let place = Place { row: index + 1, line: index as u64 + 2 };
            labels.push(text, place).map_err(|error| error.to_string())?;
        }
        labels.classes().map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(texts: &[&str], names: &[&str], targets: &[usize]) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(classes_of(texts, &[]), Ok((ClassNames::Named(names), targets.to_vec())), "{texts:?}");
    }

    #[track_caller]
    fn check_error(texts: &[&str], expected: &str) {
        assert_eq!(classes_of(texts, &[]), Err(expected.to_owned()), "{texts:?}");
    }

    #[test]
    fn a_label_is_its_text() {
        check(
            &["1234567890123456789", "1234567890123456788"],
            &["1234567890123456788", "1234567890123456789"],
            &[1, 0],
        );
        check(&["01234", "1234"], &["1234", "01234"], &[1, 0]);
        check(&["02", "01", "10"], &["01", "02", "10"], &[1, 0, 2]);
        check(&["2.50", "10.5", "2.5"], &["2.5", "2.50", "10.5"], &[1, 2, 0]);
        check(&["1e1", "9", "-0"], &["-0", "9", "1e1"], &[2, 1, 0]);
        check(&["Infinity", "cat"], &["Infinity", "cat"], &[0, 1]);
        check(&["+1", "2"], &["+1", "2"], &[0, 1]);
    }

    #[test]
    fn whole_numbers_are_equal_with_and_without_a_fraction_of_zeros() {
        check(&["2.0", "10", "2", "-1.00"], &["-1", "2", "10"], &[1, 2, 1, 0]);
        assert_eq!(classes_of(&["1.0", "0", "1"], &[]), Ok((ClassNames::Unnamed(2), vec![1, 0, 1])));
        // If one label is not a plain whole number, all are compared as text.
        check(&["1.0", "x"], &["1.0", "x"], &[0, 1]);
        check_error(
            &["01", "1", "1.0"],
            "row 3 (line 4) column \"y\" has \"1.0\", which is the same number as the class \"1\": write \
             it in the same way in all rows (classes are compared as text, because not all of them are plain whole numbers)",
        );
    }

    #[test]
    fn only_plain_whole_numbers_are_whole() {
        for (text, expected) in [("0", "0"), ("7", "7"), ("-7.0", "-7"), ("120.000", "120"), ("0.0", "0")] {
            assert_eq!(whole(text), Some(expected));
        }
        for text in ["", "-", "-0", "00", "01", "+1", "1.", ".0", "1.5", "1e3", "1 ", "٣", "1.0.0", "inf"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn a_marker_of_a_missing_value_is_refused_unless_it_is_listed() {
        for word in MISSING {
            check_error(
                &["a", word],
                &format!(
                    "row 2 (line 3) target column \"y\" has {word:?}, a common marker of a missing value: \
                     remove the row, or list this name under classes if it is a class"
                ),
            );
            let (classes, _) = classes_of(&["a", word, "b"], &[word]).unwrap();
            assert_eq!(classes.len(), 3, "{word}");
        }
        check_error(
            &["a", ""],
            "row 2 (line 3) has no value in column \"y\": fill in a value or remove the row",
        );
        check_error(
            &["1", "2", "-inf"],
            "row 3 (line 4) column \"y\" must be a finite number, but is \"-inf\"",
        );
    }

    #[test]
    fn a_name_has_at_most_128_characters() {
        check(&["a", &"é".repeat(128)], &["a", &"é".repeat(128)], &[0, 1]);
        check_error(
            &["a", &"é".repeat(65_536)],
            "row 2 (line 3) column \"y\" has a class name of 65536 characters, but at most 128 are allowed",
        );
    }

    #[test]
    fn too_few_or_too_many_classes_are_refused() {
        check_error(&[], "data has no rows: it needs rows of at least two classes");
        check_error(&["x", "x"], "all rows have the class \"x\": a classifier needs at least two classes");
        check_error(&["1", "1.0"], "all rows have the class \"1\": a classifier needs at least two classes");
        let expected = "column \"y\" has more than 256 different values, so it looks like a quantity or an id: a \
                        target must be a class";
        for count in [257, 10_000] {
            let texts: Vec<String> = (0..count).map(|label| format!("{label}.5")).collect();
            check_error(&texts.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
    }
}
