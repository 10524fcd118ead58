//! Tables with the features of a model and, where it is known, the truth: for evaluation and for predictions of many rows.
//!
//! A cell may be a number, the name of a category, or empty where the feature takes missing values.

use std::borrow::Cow;

use canopy_contract::rows::Rows;
use canopy_contract::schema::{CategoryNumbers, Feature};
use canopy_forest::data::cells::{self, Lines};
use canopy_forest::data::error::DataError;
use canopy_forest::data::seen::{Names, Seen};

/// Rows of a table.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The features, in the order of the model.
    pub rows: Rows,
    /// The text of the target in each row; empty without a target.
    pub targets: Vec<String>,
}

/// Why a table cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The bytes are no table.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is no header.
    #[error("data has no header: its first line must name the columns")]
    NoHeader,
    /// There are no rows.
    #[error("data has a header but no rows below it")]
    NoRows,
    /// A column is not in the header.
    #[error("column {} is not in the header, which has {found}{advice}", Seen::new(name))]
    NoColumn {
        /// The name of the column.
        name: String,
        /// The names in the header.
        found: Names,
        /// What to do, if the cause is known.
        advice: String,
    },
    /// A column is in the header twice.
    #[error("column {} is in the header twice: give each column a unique name", Seen::new(.0))]
    Twice(String),
    /// A line has not as many cells as the header.
    #[error("row {row} (line {line}) has {found} cells, but the header has {expected}")]
    Cells {
        /// The number of the row, the first below the header being 1.
        row: usize,
        /// The number of its line.
        line: u64,
        /// How many cells it has.
        found: usize,
        /// How many the header has.
        expected: usize,
    },
    /// A cell is no value of its feature.
    #[error("row {row} (line {line}), column {}: {}", Seen::new(name), problem.full)]
    Cell {
        /// The number of the row, the first below the header being 1.
        row: usize,
        /// The number of its line.
        line: u64,
        /// The name of the feature.
        name: String,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    full: String,
    told: &'static str,
}

impl TableError {
    /// The text without values of the table, for readers who may not be allowed to read the table.
    pub fn without_contents(&self) -> String {
        match self {
            Self::Data(error) => error.clone().without_contents().to_string(),
            Self::NoColumn { name, .. } => format!("column {} is not in the header", Seen::new(name)),
            Self::Cell { row, line, name, problem } => {
                format!("row {row} (line {line}), column {}: {}", Seen::new(name), problem.told)
            }
            Self::NoHeader | Self::NoRows | Self::Twice(_) | Self::Cells { .. } => self.to_string(),
        }
    }
}

/// Reads the columns of a CSV table that are features, and the target if there is one. Other columns are passed over.
pub fn read(bytes: &[u8], features: &[Feature], target: Option<&str>) -> Result<Labelled, TableError> {
    let (mut lines, mut header, mut cells) = (Lines::new(bytes)?, Vec::new(), Vec::new());
    if lines.read(&mut header)?.is_none() {
        return Err(TableError::NoHeader);
    }
    let columns: Vec<_> =
        features.iter().map(|feature| column(&header, &feature.name)).collect::<Result<_, _>>()?;
    let numbers: Vec<_> = features.iter().map(CategoryNumbers::new).collect();
    let target = target.map(|target| column(&header, target)).transpose()?;
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    while let Some(line) = lines.read(&mut cells)? {
        let number = rows.len() + 1;
        if cells.len() != header.len() {
            let (found, expected) = (cells.len(), header.len());
            return Err(TableError::Cells { row: number, line, found, expected });
        }
        let mut row = Vec::with_capacity(columns.len());
        for ((feature, numbers), &column) in features.iter().zip(&numbers).zip(&columns) {
            let value = value(&cells[column], feature, numbers).map_err(|problem| {
                let name = feature.name.clone();
                TableError::Cell { row: number, line, name, problem }
            })?;
            row.push(value);
        }
        rows.push(row);
        targets.extend(target.map(|target| cells[target].trim().to_owned()));
    }
    if rows.is_empty() {
        return Err(TableError::NoRows);
    }
    Ok(Labelled { rows: Rows::instances(rows), targets })
}

fn column(header: &[Cow<'_, str>], name: &str) -> Result<usize, TableError> {
    let mut found = header.iter().enumerate().filter(|(_, column)| *column == name).map(|(index, _)| index);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (Some(_), Some(_)) => Err(TableError::Twice(name.to_owned())),
        (None, _) => {
            let found = Names::new(header.iter().map(|column| &**column));
            let advice = match (cells::separator(header, name), cells::nearly(header, name)) {
                (Some(separator), _) => {
                    format!(": its cells are separated by {separator:?}, so separate them by commas instead")
                }
                (None, Some(nearly)) => format!(": call {} so", Seen::new(nearly)),
                (None, None) => String::new(),
            };
            Err(TableError::NoColumn { name: name.to_owned(), found, advice })
        }
    }
}

/// The number of a cell: its value, the index of its category, or NaN where it is missing.
fn value(cell: &str, feature: &Feature, numbers: &CategoryNumbers<'_>) -> Result<f64, Problem> {
    let cell = cell.trim();
    let shown = Seen::new(cell);
    if cell.is_empty() {
        let (full, told) =
            ("is empty, but the feature takes no missing values".to_owned(), "a value is missing");
        return if feature.missing { Ok(f64::NAN) } else { Err(Problem { full, told }) };
    }
    if let Some(index) = feature.categories.iter().position(|category| category == cell) {
        return Ok(index as f64);
    }
    let number = cell.parse().ok().filter(|number: &f64| number.is_finite());
    let Some(number) = number else {
        let (full, told) = if feature.categories.is_empty() {
            (format!("must be a finite number, but is {shown}"), "a value is not a finite number")
        } else {
            (format!("{shown} is not one of the categories"), "a value is not one of the categories")
        };
        return Err(Problem { full, told });
    };
    numbers.index(number).map_err(|fault| {
        // The error has the name already. A terminal obeys control characters, which a name may have.
        let full = fault.to_string().replace(&format!("{} must", feature.name), "must");
        let told = if feature.categories.is_empty() {
            "a value is out of the bounds of its feature"
        } else {
            "a value is not one of the categories"
        };
        Problem { full, told }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_rows(text: &str, features: &[Feature]) -> Result<Vec<Vec<f64>>, String> {
        let found = read(text.as_bytes(), features, None);
        found.map(|table| table.rows.iter().map(<[f64]>::to_vec).collect()).map_err(|error| error.to_string())
    }

    fn found(text: &str) -> Result<Vec<Vec<f64>>, String> {
        let age = Feature { min: Some(0.0), max: Some(150.0), ..Feature::named("age") };
        read_rows(text, &[age, Feature::named("income, net")])
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(found(text).unwrap_err(), expected, "{text:?}");
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let text = "name,\"income, net\" , age\nAda,-1.5e3,36\n\"Lovelace, \"\"A\"\"\", 2,0\n";
        assert_eq!(found(text).unwrap(), [[36.0, -1500.0], [0.0, 2.0]]);
        assert_eq!(found("\u{feff}age,\"income, net\"\r\n1,2\r\n").unwrap(), [[1.0, 2.0]]);
        let table = read(b"y,x\n yes ,1\n", &[Feature::named("x")], Some("y")).unwrap();
        assert_eq!((table.targets, table.rows.iter().count()), (vec!["yes".to_owned()], 1));
    }

    #[test]
    fn a_category_is_its_index_and_an_empty_cell_is_missing_where_the_feature_takes_it() {
        let colour = Feature {
            missing: true,
            categories: vec!["red".to_owned(), "blue".to_owned()],
            ..Feature::named("colour")
        };
        let rows = read_rows("colour,size\nblue,1\n,2\n", &[colour.clone(), Feature::named("size")]).unwrap();
        assert_eq!(rows[0], [1.0, 1.0]);
        assert!(rows[1][0].is_nan(), "{rows:?}");
        let error = read_rows("colour\ngreen\n", &[colour]).unwrap_err();
        assert_eq!(error, "row 1 (line 2), column \"colour\": \"green\" is not one of the categories");
    }

    #[test]
    fn a_header_without_the_features_is_an_error_with_advice() {
        check("", "data has no header: its first line must name the columns");
        check("age,\"income, net\"\n", "data has a header but no rows below it");
        check("1,2\n3,4\n", "column \"age\" is not in the header, which has \"1\", \"2\"");
        check(
            "age;income\n1;2\n",
            "column \"age\" is not in the header, which has \"age;income\": its cells are separated by ';', so \
             separate them by commas instead",
        );
        check(
            "AGE,\"income, net\"\n1,2\n",
            "column \"age\" is not in the header, which has \"AGE\", \"income, net\": call \"AGE\" so",
        );
        check(
            "age,income\n1,2\n",
            "column \"income, net\" is not in the header, which has \"age\", \"income\"",
        );
        check(
            "age,age,\"income, net\"\n",
            "column \"age\" is in the header twice: give each column a unique name",
        );
    }

    #[test]
    fn an_invalid_row_is_reported_with_its_line() {
        let rows = |row: &str| format!("age,\"income, net\",name\n\n1,2,\"x y\"\n\n{row}\n");
        check(&rows("1"), "row 2 (line 5) has 1 cells, but the header has 3");
        check(&rows("1,2,z,3"), "row 2 (line 5) has 4 cells, but the header has 3");
        let age = |problem: &str| format!("row 2 (line 5), column \"age\": {problem}");
        let income = |problem: &str| format!("row 2 (line 5), column \"income, net\": {problem}");
        check(&rows("1,two,z"), &income("must be a finite number, but is \"two\""));
        check(&rows("1,1e999,z"), &income("must be a finite number, but is \"1e999\""));
        check(&rows(",2,z"), &age("is empty, but the feature takes no missing values"));
        check(&rows("NaN,2,z"), &age("must be a finite number, but is \"NaN\""));
        check(&rows("151,2,z"), &age("must be between 0 and 150, but is 151"));
    }

    #[test]
    fn control_characters_of_names_are_escaped() {
        let bounded = Feature { min: Some(0.0), ..Feature::named("a\u{1b}[1m") };
        let error = read_rows("a\u{1b}[1m\n-1\n", &[bounded]).unwrap_err();
        assert_eq!(error, "row 1 (line 2), column \"a\\u{1b}[1m\": must be at least 0, but is -1");
    }

    #[test]
    fn an_error_without_contents_has_no_value_of_the_table() {
        let error = read(b"AGE\nsecret\n", &[Feature::named("age")], None).unwrap_err();
        assert_eq!(error.without_contents(), "column \"age\" is not in the header");
        let error = read(b"age\nsecret\n", &[Feature::named("age")], None).unwrap_err();
        assert_eq!(
            error.without_contents(),
            "row 1 (line 2), column \"age\": a value is not a finite number"
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error() {
        let error = read(b"age\n\xff\n", &[Feature::named("age")], None).unwrap_err();
        assert_eq!(error.to_string(), "data is not UTF-8 at line 2: save the file as UTF-8");
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
