//! Reads a CSV table into rows in the order of a model's features. The first error is reported with row, line and column.

use std::borrow::Cow;

use anyhow::{Context as _, Result, bail, ensure};
use canopy_contract::rows::Rows;
use canopy_contract::schema::{self, Feature};
use canopy_forest::data::cells::{self, Lines};
use canopy_forest::data::seen::{Names, Seen};

/// Reads the columns that are features; others are passed over.
pub(crate) fn rows(bytes: &[u8], features: &[Feature]) -> Result<Rows> {
    let (mut lines, mut header, mut cells) = (Lines::new(bytes)?, Vec::new(), Vec::new());
    if lines.read(&mut header)?.is_none() {
        bail!("data has no header: its first line must name the columns");
    }
    let columns: Vec<_> =
        features.iter().map(|feature| column(&header, &feature.name)).collect::<Result<_>>()?;
    let mut rows = Vec::new();
    while let Some(line) = lines.read(&mut cells)? {
        let row = row(&cells, &header, &columns).and_then(|row| admitted(row, features));
        rows.push(row.with_context(|| format!("row {} (line {line})", rows.len() + 1))?);
    }
    ensure!(!rows.is_empty(), "data has a header but no rows below it");
    Ok(Rows::instances(rows))
}

/// Where the column `name` is.
fn column(header: &[Cow<'_, str>], name: &str) -> Result<usize> {
    let mut found = header.iter().enumerate().filter(|(_, column)| *column == name).map(|(index, _)| index);
    let found = (found.next(), found.next());
    let shown = Seen::new(name);
    match found {
        (Some(index), None) => Ok(index),
        (Some(_), Some(_)) => {
            bail!("column {shown} is in the header twice: give each column a unique name")
        }
        (None, _) => {
            let names = Names::new(header.iter().map(|column| &**column));
            let advice = match (cells::separator(header, name), cells::nearly(header, name)) {
                (Some(separator), _) => {
                    format!(": its cells are separated by {separator:?}, so separate them by commas instead")
                }
                (None, Some(nearly)) => format!(": call {} so", Seen::new(nearly)),
                (None, None) => String::new(),
            };
            bail!("feature {shown} is not in the header, which has {names}{advice}")
        }
    }
}

fn row(cells: &[Cow<'_, str>], header: &[Cow<'_, str>], columns: &[usize]) -> Result<Vec<f64>> {
    let (has, expected) = (cells.len(), header.len());
    ensure!(has == expected, "it has {has} cells, but the header has {expected}");
    let mut row = Vec::with_capacity(columns.len());
    for &column in columns {
        let (name, cell) = (Seen::new(&header[column]), &cells[column]);
        let number = cell.parse().ok().filter(|number: &f64| number.is_finite());
        let wrong = || match cell.trim() {
            "" => format!("column {name} is empty, but must be a finite number"),
            _ => format!("column {name} must be a finite number, but is {}", Seen::new(cell)),
        };
        row.push(number.with_context(wrong)?);
    }
    Ok(row)
}

fn admitted(row: Vec<f64>, features: &[Feature]) -> Result<Vec<f64>> {
    match schema::check(&Rows::single(row.clone()), features) {
        Ok(()) => Ok(row),
        Err(faults) => {
            let faults: Vec<_> = faults.iter().map(|fault| fault.fault.to_string()).collect();
            // Names of features are repeated as they are, and a terminal obeys control characters.
            let escaped =
                |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
            bail!("{}", faults.join("; ").chars().map(escaped).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Vec<f64>>, String> {
        let age = Feature { min: Some(0.0), max: Some(150.0), ..Feature::named("age") };
        let found = rows(text.as_bytes(), &[age, Feature::named("income, net")]);
        found.map(|rows| rows.iter().map(<[f64]>::to_vec).collect()).map_err(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(read(text).unwrap_err(), expected, "{text:?}");
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let text = "name,\"income, net\" , age\nAda,-1.5e3,36\n\"Lovelace, \"\"A\"\"\", 2,0\n";
        assert_eq!(read(text).unwrap(), [[36.0, -1500.0], [0.0, 2.0]]);
        assert_eq!(read("\u{feff}age,\"income, net\"\r\n1,2\r\n").unwrap(), [[1.0, 2.0]]);
    }

    #[test]
    fn a_header_without_the_features_is_an_error_with_advice() {
        check("", "data has no header: its first line must name the columns");
        check("age,\"income, net\"\n", "data has a header but no rows below it");
        check("1,2\n3,4\n", "feature \"age\" is not in the header, which has \"1\", \"2\"");
        check(
            "age;income\n1;2\n",
            "feature \"age\" is not in the header, which has \"age;income\": its cells are separated by ';', so \
             separate them by commas instead",
        );
        check(
            "AGE,\"income, net\"\n1,2\n",
            "feature \"age\" is not in the header, which has \"AGE\", \"income, net\": call \"AGE\" so",
        );
        check(
            "age,income\n1,2\n",
            "feature \"income, net\" is not in the header, which has \"age\", \"income\"",
        );
        check(
            "age,age,\"income, net\"\n",
            "column \"age\" is in the header twice: give each column a unique name",
        );
    }

    #[test]
    fn an_invalid_row_is_reported_with_its_line() {
        let rows = |row: &str| format!("age,\"income, net\",name\n\n1,2,\"x y\"\n\n{row}\n");
        check(&rows("1"), "row 2 (line 5): it has 1 cells, but the header has 3");
        check(&rows("1,2,z,3"), "row 2 (line 5): it has 4 cells, but the header has 3");
        check(
            &rows("1,two,z"),
            "row 2 (line 5): column \"income, net\" must be a finite number, but is \"two\"",
        );
        check(&rows(",2,z"), "row 2 (line 5): column \"age\" is empty, but must be a finite number");
        check(
            &rows("1,1e999,z"),
            "row 2 (line 5): column \"income, net\" must be a finite number, but is \"1e999\"",
        );
        check(&rows("NaN,2,z"), "row 2 (line 5): column \"age\" must be a finite number, but is \"NaN\"");
        check(&rows("151,2,z"), "row 2 (line 5): age must be between 0 and 150, but is 151");
    }

    #[test]
    fn control_characters_of_names_are_escaped() {
        let bounded = Feature { min: Some(0.0), ..Feature::named("a\u{1b}[1m") };
        let error = rows("a\u{1b}[1m\n-1\n".as_bytes(), &[bounded]).unwrap_err();
        assert_eq!(format!("{error:#}"), "row 1 (line 2): a\\u{1b}[1m must be at least 0, but is -1");
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error() {
        let error = rows(b"age\n\xff\n", &[Feature::named("age")]).unwrap_err();
        assert_eq!(format!("{error:#}"), "data is not UTF-8 at line 2: save the file as UTF-8");
    }

    #[test]
    fn an_unclosed_quote_is_an_error_even_in_a_column_that_is_not_a_feature() {
        let row = |row: usize| format!("{row},2,{}\n", if row == 10 { "\"13in" } else { "13in" });
        let text: String = (1..=150).map(row).collect();
        check(
            &format!("age,\"income, net\",size\n{text}"),
            "line 11 column 3: a quote opens a cell that does not end on this line: one row is one line, so close \
             the quote, or write a quote inside a quoted cell twice",
        );
    }
}
