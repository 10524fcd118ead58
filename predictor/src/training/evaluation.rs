//! Evaluation on rows that the model was not trained on: of classes by accuracy, precision and recall, of values by their
//! errors.

use std::fmt;

use canopy_contract::describe::{Metric, Quality};
use canopy_contract::schema::Class;

/// The widest column of names, in characters. Longer names are not cut; their rows are not aligned.
const NAME_WIDTH_MAX: usize = 1000;

/// What was found on rows with a known truth.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// For a classifier.
    Classes(HoldOut),
    /// For a regression.
    Values(ValueErrors),
}

impl Evaluation {
    /// The value of a metric; `None` if the metric is for the other kind of model.
    pub fn quality(&self, metric: Metric) -> Option<Quality> {
        match (self, metric) {
            (Self::Classes(classes), Metric::Accuracy) => Some(classes.quality()),
            (Self::Values(values), Metric::R2 | Metric::MeanAbsoluteError | Metric::RootMeanSquaredError) => {
                Some(values.quality(metric))
            }
            (Self::Classes(_), _) | (Self::Values(_), Metric::Accuracy) => None,
        }
    }

    /// The metric of a model without a gate.
    pub fn default_metric(&self) -> Metric {
        match self {
            Self::Classes(_) => Metric::Accuracy,
            Self::Values(_) => Metric::R2,
        }
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classes(classes) => classes.fmt(f),
            Self::Values(values) => values.fmt(f),
        }
    }
}

/// The errors of predicted values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueErrors {
    rows: usize,
    absolute: f64,
    squared: f64,
    /// The sum of the squared differences of the true values from their mean.
    variation: f64,
}

impl ValueErrors {
    /// Compares true values with predicted ones.
    pub fn compare(pairs: &[(f64, f64)]) -> Self {
        let mean = pairs.iter().map(|(truth, _)| truth).sum::<f64>() / pairs.len().max(1) as f64;
        Self {
            rows: pairs.len(),
            absolute: pairs.iter().map(|(truth, value)| (truth - value).abs()).sum(),
            squared: pairs.iter().map(|(truth, value)| (truth - value).powi(2)).sum(),
            variation: pairs.iter().map(|(truth, _)| (truth - mean).powi(2)).sum(),
        }
    }

    /// A metric, by the definitions of scikit-learn. If all true values are equal, R2 is 1 without errors, otherwise 0.
    fn quality(&self, metric: Metric) -> Quality {
        let rows = self.rows.max(1) as f64;
        let value = match metric {
            Metric::MeanAbsoluteError => self.absolute / rows,
            Metric::RootMeanSquaredError => (self.squared / rows).sqrt(),
            Metric::R2 | Metric::Accuracy if self.variation > 0.0 => 1.0 - self.squared / self.variation,
            Metric::R2 | Metric::Accuracy => f64::from(u8::from(self.squared <= 0.0)),
        };
        Quality { metric, value, samples: self.rows }
    }
}

impl fmt::Display for ValueErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |metric| self.quality(metric).value;
        writeln!(f, "R2 {:.4}", value(Metric::R2))?;
        writeln!(f, "mean absolute error {:.4}", value(Metric::MeanAbsoluteError))?;
        write!(f, "root mean squared error {:.4} on {} rows", value(Metric::RootMeanSquaredError), self.rows)
    }
}

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
    fn errors_of_values_are_those_of_scikit_learn() {
        // sklearn.metrics of [3, -0.5, 2, 7] and [2.5, 0, 2, 8].
        let errors = ValueErrors::compare(&[(3.0, 2.5), (-0.5, 0.0), (2.0, 2.0), (7.0, 8.0)]);
        let found = Evaluation::Values(errors);
        for (metric, expected) in [
            (Metric::R2, 0.948_608_137_044_967_9),
            (Metric::MeanAbsoluteError, 0.5),
            (Metric::RootMeanSquaredError, 0.375_f64.sqrt()),
        ] {
            let Quality { value, samples, .. } = found.quality(metric).unwrap();
            assert!((value - expected).abs() < 1e-12 && samples == 4, "{metric:?}: {value}");
        }
        assert_eq!(found.quality(Metric::Accuracy), None);
        let constant = ValueErrors::compare(&[(1.0, 1.0), (1.0, 1.0)]);
        assert_eq!(constant.quality(Metric::R2).value.to_bits(), 1_f64.to_bits());
    }

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
