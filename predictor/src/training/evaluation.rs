//! Evaluation on held-out rows: accuracy, and precision and recall of each class.

use std::fmt;

use canopy_contract::describe::{Metric, Quality};
use canopy_contract::schema::Class;

/// The widest column of names, in characters. Longer names are not cut; their rows are not aligned.
const NAME_WIDTH_MAX: usize = 1000;

/// The confusion matrix of the held-out rows.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldOut {
    classes: Vec<Class>,
    /// Rows by their class, then by the predicted class.
    counts: Vec<Vec<usize>>,
}

impl HoldOut {
    /// Counts pairs of a row's class and its predicted class.
    pub fn compare(classes: &[Class], rows: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (has, given) in rows {
            counts[has][given] += 1;
        }
        Self { classes: classes.to_vec(), counts }
    }

    /// The accuracy.
    pub fn quality(&self) -> Quality {
        let right: usize = (0..self.classes.len()).map(|class| self.counts[class][class]).sum();
        let samples = self.counts.iter().flatten().sum();
        Quality { metric: Metric::Accuracy, value: share(right, samples), samples }
    }

    /// The indices of the classes without a held-out row, which are not evaluated.
    pub fn not_evaluated(&self) -> Vec<usize> {
        (0..self.classes.len()).filter(|&class| self.rows(class) == 0).collect()
    }

    fn rows(&self, class: usize) -> usize {
        self.counts[class].iter().sum()
    }

    /// How many rows each class was predicted for.
    pub fn given(&self) -> Vec<u64> {
        let given = |class| self.counts.iter().map(|row: &Vec<usize>| row[class] as u64).sum();
        (0..self.classes.len()).map(given).collect()
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl fmt::Display for HoldOut {
    /// A line per class with precision (the share of the rows predicted as the class that have it) and recall (the share of
    /// the rows of the class that are predicted as it), or a dash if there is no such row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.classes.iter().map(name).collect();
        let width = names
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0)
            .clamp("class".len(), NAME_WIDTH_MAX);
        writeln!(f, "{:width$}  precision  recall  rows", "class")?;
        for (class, name) in names.iter().enumerate() {
            let right = self.counts[class][class];
            let rows = self.rows(class);
            let given: usize = self.counts.iter().map(|row| row[class]).sum();
            let (precision, recall) = (shown(right, given), shown(right, rows));
            let evaluated = if rows == 0 { "  not evaluated" } else { "" };
            writeln!(f, "{name:width$}  {precision:>9}  {recall:>6}  {rows:4}{evaluated}")?;
        }
        let Quality { metric: _, value, samples } = self.quality();
        write!(f, "accuracy {value:.4} on {samples} held-out rows")
    }
}

fn shown(part: usize, whole: usize) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.3}", share(part, whole)) }
}

/// The name of a class, with control characters escaped.
pub(crate) fn name(class: &Class) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    match class {
        Class::Index(index) => index.to_string(),
        Class::Name(name) => name.chars().map(escaped).collect(),
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
accuracy 0.7500 on 4 held-out rows";
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn a_class_without_rows_is_not_evaluated() {
        let found = HoldOut::compare(&[Class::Index(0), Class::Index(1), Class::Index(2)], [(0, 0), (1, 0)]);
        let expected = "\
class  precision  recall  rows
0          0.500   1.000     1
1              -   0.000     1
2              -       -     0  not evaluated
accuracy 0.5000 on 2 held-out rows";
        assert_eq!(found.to_string(), expected);
        assert_eq!(found.not_evaluated(), [2]);
    }

    #[test]
    fn names_of_any_length_and_with_any_character_are_shown() {
        let names = ["a\u{1b}[1m".to_owned(), "b".repeat(65_536)];
        let found = HoldOut::compare(&names.map(Class::Name), [(0, 0)]).to_string();
        assert!(found.contains("a\\u{1b}[1m "), "{found}");
    }
}
