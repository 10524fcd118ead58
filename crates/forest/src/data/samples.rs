//! Labelled samples: rows of finite numbers with one class each. They have at least two classes.

use linfa::Dataset;
use ndarray::{Array1, Array2, Ix1};

use crate::data::precision::Merged;

/// The most characters in the name of a column or class.
pub const NAME_MAX: usize = 128;

/// The most classes: the search for a split stores a class in 8 bits.
pub const CLASSES_MAX: usize = 256;

/// The most rows: the search for a split stores the rank of a value in 24 bits.
pub const ROWS_MAX: usize = 1 << 24;

/// The names of the classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassNames {
    /// The number of classes without names: the targets are the whole numbers from 0.
    Unnamed(usize),
    /// One name per class, which is the text of the target. Numbers are ordered by value, other texts by their bytes.
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

    /// Whether there are no classes. [`Samples`] always have some.
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
    pub(crate) merged: Vec<Merged>,
}

impl Samples {
    /// The features in which different numbers of the table were parsed as the same 64-bit float. It is empty for a
    /// part of a table.
    pub fn merged(&self) -> &[Merged] {
        &self.merged
    }

    /// The names of the features, in the order of the columns.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// The names of the classes. A part of a table has all classes of the whole table.
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
    /// If an index is not less than the number of rows.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let width = self.features.len();
        let values = rows.iter().flat_map(|row| &self.values[row * width..][..width]).copied().collect();
        let targets = rows.iter().map(|&row| self.targets[row]).collect();
        let (features, classes) = (self.features.clone(), self.classes.clone());
        Self { features, values, targets, classes, merged: Vec::new() }
    }

    /// The samples as a data set of linfa: records of shape (rows, features), targets of shape (rows).
    pub fn dataset(&self) -> Dataset<f64, usize, Ix1> {
        let width = self.features.len();
        let records =
            Array2::from_shape_fn((self.len(), width), |(row, column)| self.values[row * width + column]);
        Dataset::new(records, Array1::from(self.targets.clone())).with_feature_names(self.features.clone())
    }
}
