//! The parts of a `LightGBM` file: lines `key=value` of a header, then of each tree, up to the line `end of trees`.

use std::collections::HashMap;
use std::str::{FromStr, Lines};

use crate::read::error::Problem;

const END_OF_TREES: &str = "end of trees";
const PANDAS: &str = "pandas_categorical:";

/// The lines `key=value` of one part. A line without a value has an empty one.
pub(super) struct Section<'a>(HashMap<&'a str, &'a str>);

/// A file of which the header is read.
pub(super) struct File<'a> {
    lines: Lines<'a>,
    is_at_end: bool,
    /// The header.
    pub(super) header: Section<'a>,
    /// The categories of pandas columns, as JSON; empty where the file has none.
    pub(super) pandas: &'a str,
}

impl<'a> File<'a> {
    pub(super) fn open(text: &'a str) -> Result<Self, Problem> {
        let mut lines = text.lines();
        if lines.next() != Some("tree") {
            return Err(Problem::malformed("the first line must be `tree`"));
        }
        let (header, end) = Section::read(&mut lines)?;
        if end == End::File {
            return Err(cut());
        }
        // The last line that has it: parameters before it may have any text.
        let pandas = text.rsplit_once(END_OF_TREES).and_then(|(_, rest)| rest.rsplit_once(PANDAS));
        let pandas = pandas.map_or("", |(_, json)| json.trim());
        Ok(Self { lines, is_at_end: end == End::Trees, header, pandas })
    }

    /// The next tree; nothing after the last one.
    pub(super) fn next_tree(&mut self) -> Option<Result<Section<'a>, Problem>> {
        if self.is_at_end {
            return None;
        }
        let section = Section::read(&mut self.lines).and_then(|(section, end)| match end {
            End::File => Err(cut()),
            End::Tree => Ok(section),
            End::Trees => {
                self.is_at_end = true;
                Ok(section)
            }
        });
        Some(section)
    }
}

fn cut() -> Problem {
    Problem::malformed(format!("the file ends before the line `{END_OF_TREES}`"))
}

/// What ends a section.
#[derive(PartialEq, Eq)]
enum End {
    Tree,
    Trees,
    File,
}

impl<'a> Section<'a> {
    /// Takes lines up to the start of the next tree, or the end of all.
    fn read(lines: &mut Lines<'a>) -> Result<(Self, End), Problem> {
        let mut values = HashMap::new();
        for line in lines {
            if line == END_OF_TREES {
                return Ok((Self(values), End::Trees));
            }
            if line.starts_with("Tree=") {
                return Ok((Self(values), End::Tree));
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            if !line.is_empty() && values.insert(key, value).is_some() {
                return Err(Problem::malformed(format!("`{}` is there twice", start(key))));
            }
        }
        Ok((Self(values), End::File))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn optional(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str, Problem> {
        self.optional(key).ok_or_else(|| Problem::malformed(format!("`{key}` is missing")))
    }

    pub(super) fn number<T: FromStr>(&self, key: &str) -> Result<T, Problem> {
        number(key, self.text(key)?)
    }

    /// Exactly `count` numbers.
    pub(super) fn numbers<T: FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>, Problem> {
        let words = self.text(key)?.split_ascii_whitespace();
        let numbers: Vec<T> = words.map(|word| number(key, word)).collect::<Result<_, _>>()?;
        if numbers.len() != count {
            let found = numbers.len();
            return Err(Problem::malformed(format!("`{key}` must have {count} numbers, got {found}")));
        }
        Ok(numbers)
    }
}

fn number<T: FromStr>(key: &str, word: &str) -> Result<T, Problem> {
    word.trim().parse().map_err(|_| Problem::malformed(format!("`{key}` has no number `{}`", start(word))))
}

/// The start of a text that may be long.
pub(super) fn start(text: &str) -> String {
    text.chars().take(40).collect()
}
