//! Splits the bytes of a CSV table into cells. One line is one row.
//!
//! The format is RFC 4180 in UTF-8, with two exceptions. A cell has no line break, because a quote that was left open by
//! mistake would otherwise swallow the following rows. Spaces around a cell, and around its quotes, are ignored. Every
//! error has the number of its line.

use std::borrow::Cow;

use crate::data::error::DataError;

/// Separators of other formats.
const OTHER_SEPARATORS: [char; 3] = [';', '\t', '|'];

/// First bytes of other kinds of files, the name of the kind, and what to do.
const OTHER_KINDS: [(&[u8], &str, &str); 6] = [
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet such as .xlsx", "save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet such as .xls", "save the sheet as CSV"),
    (b"PAR1", "a Parquet file", "write it as CSV"),
    (b"\xff\xfe", "text in UTF-16", "save the file as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save the file as UTF-8"),
];

/// The lines of a table that are not empty.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: &'a str,
    /// The number of the line that `rest` begins with.
    line: u64,
}

impl<'a> Lines<'a> {
    /// The lines of `bytes`, which must be text.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DataError> {
        if let Some(&(_, kind, advice)) = OTHER_KINDS.iter().find(|(magic, _, _)| bytes.starts_with(magic)) {
            return Err(DataError::OtherKind { kind, advice });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            DataError::NotUtf8 { line: 1 + line_breaks(before) }
        })?;
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        if rest.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("sep=")) {
            return Err(DataError::SeparatorLine);
        }
        Ok(Self { rest, line: 1 })
    }

    /// Replaces `cells` by those of the next line that is not empty, and returns the number of the line; `None` at the end.
    pub fn read(&mut self, cells: &mut Vec<Cow<'a, str>>) -> Result<Option<u64>, DataError> {
        while !self.rest.is_empty() {
            let end = self.rest.bytes().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (text, after) = match end {
                Some(end) if self.rest[end..].starts_with("\r\n") => {
                    (&self.rest[..end], &self.rest[end + 2..])
                }
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, ""),
            };
            let line = self.line;
            self.rest = after;
            self.line += 1;
            if !text.is_empty() {
                split(text, line, cells)?;
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

/// The number of line ends: LF, CR, or CR LF.
fn line_breaks(bytes: &[u8]) -> u64 {
    let ends = |&(index, &byte): &(usize, &u8)| match byte {
        b'\n' => true,
        b'\r' => bytes.get(index + 1) != Some(&b'\n'),
        _ => false,
    };
    bytes.iter().enumerate().filter(ends).count() as u64
}

fn split<'a>(text: &'a str, line: u64, cells: &mut Vec<Cow<'a, str>>) -> Result<(), DataError> {
    cells.clear();
    let mut rest = text;
    loop {
        let column = cells.len() + 1;
        let (cell, after) = if let Some(quoted) = rest.trim_start().strip_prefix('"') {
            let (cell, after) = unquote(quoted).ok_or(DataError::OpenQuote { line, column })?;
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with(',') {
                let separator = OTHER_SEPARATORS.into_iter().find(|&separator| after.starts_with(separator));
                return Err(DataError::AfterQuote { line, column, separator });
            }
            (trimmed(cell), after.strip_prefix(','))
        } else {
            match rest.split_once(',') {
                Some((cell, after)) => (Cow::Borrowed(cell.trim()), Some(after)),
                None => (Cow::Borrowed(rest.trim()), None),
            }
        };
        cells.push(cell);
        match after {
            Some(after) => rest = after,
            None => return Ok(()),
        }
    }
}

/// The text up to its closing quote, and the rest of the line; `None` if there is no closing quote. Two quotes are an escaped
/// one.
fn unquote(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = quoted.find('"')?;
    if !quoted[end + 1..].starts_with('"') {
        return Some((Cow::Borrowed(&quoted[..end]), &quoted[end + 1..]));
    }
    let (mut text, mut rest) = (String::new(), quoted);
    loop {
        let end = rest.find('"')?;
        text.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                text.push('"');
                rest = after;
            }
            None => return Some((Cow::Owned(text), rest)),
        }
    }
}

fn trimmed(cell: Cow<'_, str>) -> Cow<'_, str> {
    match cell {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// The other separator with which `header` has a column `name`.
pub fn separator(header: &[Cow<'_, str>], name: &str) -> Option<char> {
    let text = header.join(",");
    let names = |separator: char| text.split(separator).map(|cell| cell.trim().trim_matches('"').trim());
    OTHER_SEPARATORS.into_iter().find(|&separator| names(separator).any(|cell| cell == name))
}

/// The column whose name differs from `name` only in surrounding spaces and case.
pub fn nearly<'a>(header: &'a [Cow<'_, str>], name: &str) -> Option<&'a str> {
    let folded = |name: &str| name.trim().to_lowercase();
    header.iter().map(|column| &**column).find(|column| folded(column) == folded(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Vec<String>)>, DataError> {
        let (mut lines, mut cells, mut all) = (Lines::new(bytes)?, Vec::new(), Vec::new());
        while let Some(line) = lines.read(&mut cells)? {
            all.push((line, cells.iter().map(|cell| cell.clone().into_owned()).collect()));
        }
        Ok(all)
    }

    #[track_caller]
    fn check(text: &str, expected: &[(u64, &[&str])]) {
        let read = read(text.as_bytes()).unwrap();
        let read: Vec<(u64, Vec<&str>)> =
            read.iter().map(|(line, cells)| (*line, cells.iter().map(String::as_str).collect())).collect();
        let expected: Vec<(u64, Vec<&str>)> =
            expected.iter().map(|(line, cells)| (*line, cells.to_vec())).collect();
        assert_eq!(read, expected, "{text:?}");
    }

    #[track_caller]
    fn check_error(bytes: &[u8], expected: &str) {
        assert_eq!(read(bytes).unwrap_err().to_string(), expected);
    }

    #[test]
    fn any_line_end_ends_a_row_and_empty_lines_are_skipped() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("\u{feff}a,b{end}{end}1,2{end} {end}3{end}");
            check(&text, &[(1, &["a", "b"]), (3, &["1", "2"]), (4, &[""]), (5, &["3"])]);
        }
        check("a", &[(1, &["a"])]);
        check("", &[]);
        check("\n\r\n", &[]);
    }

    #[test]
    fn quotes_and_the_spaces_around_them_are_removed() {
        check("1, \"p\" ,\t\"a,b\"", &[(1, &["1", "p", "a,b"])]);
        check("\"x \"\"y\"\"\",\"\",\"\"\"\"", &[(1, &["x \"y\"", "", "\""])]);
        check("5\" pipe,a\"b\"c,x\"", &[(1, &["5\" pipe", "a\"b\"c", "x\""])]);
        check(",,", &[(1, &["", "", ""])]);
    }

    #[test]
    fn an_unclosed_quote_is_refused_with_its_line() {
        let open = |line: u64, column: usize| {
            format!(
                "line {line} column {column}: a quote opens a cell that does not end on this line: one row is one \
                 line, so close the quote, or write a quote inside a quoted cell twice"
            )
        };
        for rest in ["", "\n", "\n4,q\n", "\n4,\"q\"\n", "\r\ny\"\n", "\ry\""] {
            check_error(format!("a,y\n\n3,\"p{rest}").as_bytes(), &open(3, 2));
        }
        check_error(b"\"a\nb\",y\n", &open(1, 1));
        check_error(b"a,\"\"\"\n", &open(1, 2));
    }

    #[test]
    fn text_after_a_closing_quote_is_refused() {
        check_error(
            b"a\n\"13\" wide\n",
            "line 2 column 1: text follows the quote that ends a cell: write a quote inside a quoted cell twice",
        );
        check_error(
            b"\"a\";\"b\"\n",
            "line 1 column 1: ';' follows the quote that ends a cell: separate cells by commas",
        );
    }

    #[test]
    fn files_of_other_kinds_are_refused_with_what_to_do() {
        for (bytes, expected) in [
            (
                &b"\x1f\x8b\x08\0"[..],
                "data is compressed by gzip, but it must be a CSV file: unpack it with gunzip",
            ),
            (
                b"PK\x03\x04\x14",
                "data is a ZIP archive or a spreadsheet such as .xlsx, but it must be a CSV file: save the sheet as CSV",
            ),
            (b"\xff\xfea\0", "data is text in UTF-16, but it must be a CSV file: save the file as UTF-8"),
            (b"sep=;\na;b\n", "line 1 is for Excel only (sep=): remove it, and separate cells by commas"),
            (
                b"\xef\xbb\xbfSEP=,\na,b\n",
                "line 1 is for Excel only (sep=): remove it, and separate cells by commas",
            ),
            (b"a\nb\r\nc\rd\xff\n", "data is not UTF-8 at line 4: save the file as UTF-8"),
        ] {
            check_error(bytes, expected);
        }
    }

    #[test]
    fn another_separator_is_recognised_by_the_name_of_the_target() {
        let header = |text: &'static str| vec![Cow::Borrowed(text)];
        assert_eq!(separator(&header("a;b;\"y\""), "y"), Some(';'));
        assert_eq!(separator(&header("a\tb\ty"), "y"), Some('\t'));
        assert_eq!(separator(&header("a;b"), "y"), None);
        assert_eq!(nearly(&[Cow::Borrowed("a"), Cow::Borrowed("Species")], " species "), Some("Species"));
        assert_eq!(nearly(&[Cow::Borrowed("a")], "b"), None);
    }

    proptest! {
        #[test]
        fn quoted_cells_are_read_back(
            rows in prop::collection::vec(prop::collection::vec("[ -~é]{0,6}", 1..4), 0..20),
        ) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
            let text: String = rows.iter().map(line).collect();
            let found = read(text.as_bytes()).unwrap();
            let expected: Vec<(u64, Vec<String>)> = rows
                .iter()
                .zip(1..)
                .map(|(row, line)| (line, row.iter().map(|cell| cell.trim().to_owned()).collect()))
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn every_line_that_is_not_empty_is_a_row(text in "[ab,\"\n\r ]{0,60}") {
            if let Ok(rows) = read(text.as_bytes()) {
                let lines = text.split(['\n', '\r']).filter(|line| !line.is_empty()).count();
                prop_assert_eq!(rows.len(), lines);
            }
        }
    }
}
