//! Preprocessing of columns: each column of the new row is one column of the old row after some changes.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ensemble::precision::Precision;

/// A column of the new row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The index of the column of the old row.
    pub source: usize,
    /// What changes its values, in order.
    pub changes: Vec<Change>,
}

/// A change of a value. All but [`Change::Replace`] leave NaN as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Rounds to 32 bits.
    Round,
    /// Cuts the fraction off.
    Truncate,
    /// `(value - offset) * scale`. Both results are rounded to the precision.
    Scale {
        /// What is subtracted.
        offset: f64,
        /// The factor.
        scale: f64,
        /// To which results are rounded.
        precision: Precision,
    },
    /// `value / divisor`, rounded to the precision.
    Divide {
        /// The divisor.
        divisor: f64,
        /// To which the result is rounded.
        precision: Precision,
    },
    /// The nearest value from `least` to `most`.
    Clamp {
        /// The least value.
        least: f64,
        /// The largest value.
        most: f64,
    },
    /// Replaces one value by another.
    Replace {
        /// The value, which may be NaN.
        value: f64,
        /// The other.
        with: f64,
    },
    /// 1 if the value is this one, otherwise 0.
    Is(f64),
    /// 1 if the value is above this one, otherwise 0.
    Above(f64),
    /// Looks the value up in a table.
    Map(#[serde(serialize_with = "write_shared", deserialize_with = "read_shared")] Arc<Table>),
}

/// Pairs of a key and a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Pairs")]
pub struct Table {
    /// The pairs, in ascending order of the keys.
    pairs: Vec<(f64, f64)>,
    /// The value of all other keys.
    default: f64,
}

/// A table whose pairs may be in any order.
#[derive(Deserialize)]
struct Pairs {
    pairs: Vec<(f64, f64)>,
    default: f64,
}

impl From<Pairs> for Table {
    fn from(Pairs { pairs, default }: Pairs) -> Self {
        Self::new(pairs, default)
    }
}

fn write_shared<S: Serializer>(table: &Arc<Table>, serializer: S) -> Result<S::Ok, S::Error> {
    table.as_ref().serialize(serializer)
}

fn read_shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Table>, D::Error> {
    Table::deserialize(deserializer).map(Arc::new)
}

impl Table {
    /// A table of these pairs, in any order; of equal keys, the first counts. Keys that are NaN are left out.
    pub fn new(pairs: impl IntoIterator<Item = (f64, f64)>, default: f64) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(key, _)| !key.is_nan()).collect();
        // Adding zero makes 0 of -0, which is the same key.
        for pair in &mut pairs {
            pair.0 += 0.0;
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        pairs.dedup_by(|a, b| a.0.to_bits() == b.0.to_bits());
        Self { pairs, default }
    }

    fn value(&self, key: f64) -> f64 {
        let found = self.pairs.binary_search_by(|pair| pair.0.total_cmp(&(key + 0.0)));
        found.map_or(self.default, |index| self.pairs[index].1)
    }
}

impl Change {
    /// The changed value.
    pub fn apply(&self, value: f64) -> f64 {
        if let Self::Replace { value: replaced, with } = self {
            let is_equal = are_equal(value, *replaced);
            return if is_equal || value.is_nan() && replaced.is_nan() { *with } else { value };
        }
        if value.is_nan() {
            return value;
        }
        let bit = |is| if is { 1.0 } else { 0.0 };
        match self {
            Self::Round => rounded(value, Precision::Single),
            Self::Truncate => value.trunc(),
            Self::Scale { offset, scale, precision } => {
                rounded(rounded(value - offset, *precision) * scale, *precision)
            }
            Self::Divide { divisor, precision } => rounded(value / divisor, *precision),
            Self::Clamp { least, most } => value.max(*least).min(*most),
            Self::Is(wanted) => bit(are_equal(value, *wanted)),
            Self::Above(threshold) => bit(value > *threshold),
            Self::Map(table) => table.value(value),
            Self::Replace { .. } => value,
        }
    }
}

/// Whether two numbers are equal; 0 is equal to -0.
fn are_equal(a: f64, b: f64) -> bool {
    a.partial_cmp(&b) == Some(Ordering::Equal)
}

fn rounded(value: f64, precision: Precision) -> f64 {
    match precision {
        Precision::Single => f64::from(value as f32),
        Precision::Double => value,
    }
}

impl Column {
    /// The column as it is.
    pub fn same(source: usize) -> Self {
        Self { source, changes: Vec::new() }
    }

    /// The column after one more change.
    #[must_use]
    pub fn then(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// How much memory it needs, in columns and changes.
    pub(crate) fn cost(&self) -> usize {
        1 + self.changes.len()
    }

    /// The value of the new row; NaN if the old row has no such column.
    pub fn value(&self, row: &[f64]) -> f64 {
        let value = row.get(self.source).copied().unwrap_or(f64::NAN);
        self.changes.iter().fold(value, |value, change| change.apply(value))
    }
}

/// What a row is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// The largest value.
    Max,
    /// The largest absolute value.
    MaxAbs,
    /// The sum of the absolute values.
    L1,
    /// The root of the sum of the squares.
    L2,
}

impl Norm {
    /// Divides a row by its norm. A row whose norm is 0 stays as it is.
    pub fn apply(self, row: &mut [f64]) {
        let norm = match self {
            Self::Max => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::MaxAbs => row.iter().map(|value| value.abs()).fold(0.0, f64::max),
            Self::L1 => row.iter().map(|value| value.abs()).sum(),
            Self::L2 => row.iter().map(|value| value * value).sum::<f64>().sqrt(),
        };
        if norm != 0.0 {
            for value in row {
                *value /= norm;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_gives_the_value_that_its_definition_says() {
        let table = Arc::new(Table::new([(3.0, 30.0), (-0.0, 1.0), (0.0, 2.0), (f64::NAN, 9.0)], -1.0));
        let single = Precision::Single;
        for (change, value, expected) in [
            (Change::Round, 0.1, f64::from(0.1_f32)),
            (Change::Truncate, -2.7, -2.0),
            (Change::Scale { offset: 1.0, scale: 0.5, precision: Precision::Double }, 4.0, 1.5),
            (Change::Scale { offset: 0.0, scale: 0.1, precision: single }, 1.0, f64::from(0.1_f32)),
            (Change::Divide { divisor: 4.0, precision: single }, 1.0, 0.25),
            (Change::Clamp { least: -1.0, most: 2.0 }, 2.5, 2.0),
            (Change::Clamp { least: -1.0, most: 2.0 }, -2.5, -1.0),
            (Change::Replace { value: f64::NAN, with: 7.0 }, f64::NAN, 7.0),
            (Change::Replace { value: 0.0, with: 7.0 }, -0.0, 7.0),
            (Change::Replace { value: 0.0, with: 7.0 }, 1.0, 1.0),
            (Change::Is(2.0), 2.0, 1.0),
            (Change::Is(2.0), 3.0, 0.0),
            (Change::Above(2.0), 2.0, 0.0),
            (Change::Above(2.0), 2.5, 1.0),
            (Change::Map(table.clone()), -0.0, 1.0),
            (Change::Map(table.clone()), 3.0, 30.0),
            (Change::Map(table.clone()), 2.0, -1.0),
        ] {
            assert_eq!(change.apply(value).to_bits(), expected.to_bits(), "{change:?} of {value}");
        }
        assert!(Change::Map(table).apply(f64::NAN).is_nan());
    }

    #[test]
    fn a_row_is_divided_by_its_norm() {
        for (norm, expected) in [
            (Norm::MaxAbs, [-1.0, 0.75]),
            (Norm::Max, [-4.0 / 3.0, 1.0]),
            (Norm::L1, [-4.0 / 7.0, 3.0 / 7.0]),
            (Norm::L2, [-0.8, 0.6]),
        ] {
            let mut row = [-4.0, 3.0];
            norm.apply(&mut row);
            assert_eq!(row.map(f64::to_bits), expected.map(f64::to_bits));
            let mut zeros = [0.0, 0.0];
            norm.apply(&mut zeros);
            assert_eq!(zeros.map(f64::to_bits), [0; 2]);
        }
    }
}
