//! Tables with the features of a model and, where it is known, the truth: for evaluation and for predictions of many rows.
//!
//! A cell may be a number, the name of a category, or empty where the feature takes missing values.

use std::borrow::Cow;

use canopy_contract::rows::Rows;
use canopy_contract::schema::{self, Feature};
use canopy_forest::data::cells::Lines;
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
    /// There are no rows.
    #[error("data must have a header and at least one row below it")]
    NoRows,
    /// A column is not in the header.
    #[error("column {} is not in the header, which has {found}", Seen::new(name))]
    NoColumn {
        /// The name of the column.
        name: String,
        /// The names in the header.
        found: Names,
    },
    /// A column is in the header twice.
    #[error("column {} is in the header twice", Seen::new(.0))]
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
            Self::NoColumn { name, found: _ } => format!("column {} is not in the header", Seen::new(name)),
            Self::Cell { row, line, name, problem } => {
                format!("row {row} (line {line}), column {}: {}", Seen::new(name), problem.told)
            }
            Self::NoRows | Self::Twice(_) | Self::Cells { .. } => self.to_string(),
        }
    }
}

/// Reads the columns of a CSV table that are features, and the target if there is one. Other columns are passed over.
pub fn read(bytes: &[u8], features: &[Feature], target: Option<&str>) -> Result<Labelled, TableError> {
    let (mut lines, mut header, mut cells) = (Lines::new(bytes)?, Vec::new(), Vec::new());
    if lines.read(&mut header)?.is_none() {
        return Err(TableError::NoRows);
    }
    let columns: Vec<_> =
        features.iter().map(|feature| column(&header, &feature.name)).collect::<Result<_, _>>()?;
    let target = target.map(|target| column(&header, target)).transpose()?;
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    while let Some(line) = lines.read(&mut cells)? {
        let number = rows.len() + 1;
        if cells.len() != header.len() {
            let (found, expected) = (cells.len(), header.len());
            return Err(TableError::Cells { row: number, line, found, expected });
        }
        let mut row = Vec::with_capacity(columns.len());
        for (feature, &column) in features.iter().zip(&columns) {
            let value = value(&cells[column], feature).map_err(|problem| {
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
            Err(TableError::NoColumn { name: name.to_owned(), found })
        }
    }
}

/// The number of a cell: its value, the index of its category, or NaN where it is missing.
fn value(cell: &str, feature: &Feature) -> Result<f64, Problem> {
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
    match schema::check(&Rows::single(vec![number]), std::slice::from_ref(feature)) {
        Ok(()) => Ok(number),
        Err(faults) => {
            let full = faults.iter().map(|fault| fault.fault.to_string()).collect::<Vec<_>>().join("; ");
            Err(Problem { full, told: "a value is out of the bounds of its feature" })
        }
    }
}
