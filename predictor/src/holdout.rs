//! How good a model is on rows it was not trained on.
//!
//! Comes in: the class each row has, and the class it was given. Goes out: accuracy, and for each class how often
//! it was found and how often rightly named. Never: rows.

use std::fmt;

use canopy_contract::describe::{Metric, Quality};
use canopy_contract::schema::Class;

/// What was found on the rows held out.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldOut {
    classes: Vec<Class>,
    /// Rows by the class they have, then by the class they were given.
    counts: Vec<Vec<usize>>,
}

impl HoldOut {
    /// Compares, row by row, the class it has with the class it was given.
    pub fn compare(classes: &[Class], rows: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (has, given) in rows {
            counts[has][given] += 1;
        }
        Self { classes: classes.to_vec(), counts }
    }

    /// The share of rows whose class was predicted, and of how many rows.
    pub fn quality(&self) -> Quality {
        let right: usize = (0..self.classes.len()).map(|class| self.counts[class][class]).sum();
        let samples = self.counts.iter().flatten().sum();
        Quality { metric: Metric::Accuracy, value: share(right, samples), samples }
    }

    /// How many rows were given each class.
    pub fn given(&self) -> Vec<u64> {
        let given = |class| self.counts.iter().map(|row: &Vec<usize>| row[class] as u64).sum();
        (0..self.classes.len()).map(given).collect()
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for HoldOut {
    /// A line per class with precision (of the rows given this class, the share that has it) and recall (of the
    /// rows that have it, the share that was given it).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.classes.iter().map(name).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("class".len());
        writeln!(f, "{:width$}  precision  recall  rows", "class")?;
        for (class, name) in names.iter().enumerate() {
            let right = self.counts[class][class];
            let rows: usize = self.counts[class].iter().sum();
            let given: usize = self.counts.iter().map(|row| row[class]).sum();
            let (precision, recall) = (share(right, given), share(right, rows));
            writeln!(f, "{name:width$}  {precision:9.3}  {recall:6.3}  {rows:4}")?;
        }
        let Quality { metric: Metric::Accuracy, value, samples } = self.quality();
        write!(f, "accuracy {value:.4} of {samples} rows held out")
    }
}

fn name(class: &Class) -> String {
    match class {
        Class::Index(index) => index.to_string(),
        Class::Name(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_per_class_and_the_accuracy() {
        let classes = ["cat", "mongoose"].map(|name| Class::Name(name.to_owned()));
        let rows = [(0, 0), (0, 0), (0, 1), (1, 1)];
        let found = HoldOut::compare(&classes, rows);
        assert_eq!(found.quality(), Quality { metric: Metric::Accuracy, value: 0.75, samples: 4 });
        assert_eq!(found.given(), [2, 2]);
        let expected = "\
class     precision  recall  rows
cat           1.000   0.667     3
mongoose      0.500   1.000     1
accuracy 0.7500 of 4 rows held out";
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn a_class_without_rows_is_no_division_by_zero() {
        let found = HoldOut::compare(&[Class::Index(0), Class::Index(1)], [(0, 0)]);
        assert!(found.to_string().contains("1          0.000   0.000     0"), "{found}");
    }
}
