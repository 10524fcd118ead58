//! Samples: rows of numbers with a class each.
//!
//! Comes in: what `table` and `synthetic` made. Goes out: rows, classes and names in the shapes that training
//! takes. Never: a number that is not finite, a row of another length, fewer than two classes.

use linfa::Dataset;
use ndarray::{Array1, Array2, Ix1};
use thiserror::Error;

/// The most classes a classifier can have: a split is searched with the class in 8 bits.
pub const CLASSES_MAX: usize = 256;

/// The most rows a forest is trained on: a split is searched with the rank of a value in 24 bits.
pub const ROWS_MAX: usize = 1 << 24;

/// What the classes are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassNames {
    /// So many classes without names: the targets were the whole numbers from 0 on.
    Unnamed(usize),
    /// One name per class: numbers in the order of their values, text in the order of its bytes.
    Named(Vec<String>),
}

impl ClassNames {
    /// How many classes there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Unnamed(count) => *count,
            Self::Named(names) => names.len(),
        }
    }

    /// Whether there is no class; no [`Samples`] are like that.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Labelled rows: every value is finite, every row has one value per feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    pub(crate) features: Vec<String>,
    /// Row after row, one value per feature.
    pub(crate) values: Vec<f64>,
    /// The index of the class of each row.
    pub(crate) targets: Vec<usize>,
    pub(crate) classes: ClassNames,
}

impl Samples {
    /// The names of the features, in the order of the columns.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// What the classes are called. A part of a table knows all classes of the whole.
    pub fn classes(&self) -> &ClassNames {
        &self.classes
    }

    /// The index of the class of each row.
    pub fn targets(&self) -> &[usize] {
        &self.targets
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.features.len())
    }

    /// The rows with these indices, in this order, with all classes.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let width = self.features.len();
        let values = rows.iter().flat_map(|row| &self.values[row * width..][..width]).copied().collect();
        let targets = rows.iter().map(|&row| self.targets[row]).collect();
        Self { features: self.features.clone(), values, targets, classes: self.classes.clone() }
    }

    /// The same as a data set of linfa: records of shape (rows, features), targets of shape (rows).
    pub fn dataset(&self) -> Dataset<f64, usize, Ix1> {
        let width = self.features.len();
        let records =
            Array2::from_shape_fn((self.len(), width), |(row, column)| self.values[row * width + column]);
        Dataset::new(records, Array1::from(self.targets.clone())).with_feature_names(self.features.clone())
    }
}

/// Why samples cannot be had. `row` counts the rows below the header from 1, `line` the lines of the file.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DataError {
    /// The bytes are not UTF-8.
    #[error("data is not UTF-8 at line {line}: save the file as UTF-8")]
    NotUtf8 {
        /// The line.
        line: u64,
    },
    /// There is no line at all.
    #[error("data has no header: its first line must name the columns")]
    NoHeader,
    /// A column has no name.
    #[error("column {position} of the header has no name: name every column")]
    UnnamedColumn {
        /// Its place, from 1.
        position: usize,
    },
    /// Two columns have one name.
    #[error("column {column} is in the header twice: give each column a name of its own")]
    DuplicateColumn {
        /// The name.
        column: String,
    },
    /// No column has the name of the target.
    #[error("target column {target} is not in the header, which has {found}: name one of these")]
    NoTarget {
        /// The name that was looked for.
        target: String,
        /// The names there are, cut where they are many.
        found: String,
    },
    /// The target is the only column.
    #[error("data has no feature: beside the target column {target} it needs at least one more")]
    NoFeatures {
        /// The target column.
        target: String,
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
    /// A cell has nothing in it.
    #[error("row {row} (line {line}) has nothing in column {column}: give a value or leave the row out")]
    EmptyCell {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: String,
    },
    /// A cell of a feature is no number.
    #[error("row {row} (line {line}) column {column} must be a number, but is {text:?}")]
    NotANumber {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: String,
        /// What the cell has, cut where it is long.
        text: String,
    },
    /// A cell is NaN, an infinity, or a number beyond the largest 64-bit float.
    #[error("row {row} (line {line}) column {column} must be a finite number, but is {text:?}")]
    NotFinite {
        /// The row.
        row: usize,
        /// Its line.
        line: u64,
        /// The column.
        column: String,
        /// What the cell has, cut where it is long.
        text: String,
    },
    /// There is a header and nothing below it.
    #[error("data has no rows: it needs rows of at least two classes")]
    NoRows,
    /// More rows than can be trained on.
    #[error("data has more than {ROWS_MAX} rows: train on a part of them")]
    TooManyRows,
    /// All rows have the same class.
    #[error("all rows have the class {class}: a classifier needs at least two")]
    OneClass {
        /// The class.
        class: String,
    },
    /// More classes than a classifier can have.
    #[error(
        "column {target} has more than {CLASSES_MAX} different values: a target must be a class, not a measure"
    )]
    TooManyClasses {
        /// The target column.
        target: String,
    },
    /// Synthetic data cannot be labelled by the sum of two features when there are fewer.
    #[error("synthetic data has {found} features, but needs at least 2")]
    TooFewFeatures {
        /// How many were asked for.
        found: usize,
    },
    /// A split leaves no row on one side.
    #[error("{rows} rows cannot be split with {test_percent} percent held out: both parts need a row")]
    Unsplittable {
        /// How many rows there are.
        rows: usize,
        /// The share asked for.
        test_percent: u32,
    },
}
