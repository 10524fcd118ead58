//! Reads the parts of Prometheus' text format that tests need. A missing family is an error.

use std::iter::Sum;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

/// The metrics of one process.
#[derive(Debug)]
pub struct Scrape(pub String);

impl Scrape {
    /// The sum over all series of a family whose labels include `labels`, each spelled `name="value"`.
    pub fn sum(&self, family: &str, labels: &[&str]) -> Result<f64> {
        self.values(family, labels)
    }

    /// The same for a counter, as an integer.
    pub fn count(&self, family: &str, labels: &[&str]) -> Result<u64> {
        self.values(family, labels)
    }

    fn values<T: FromStr + Sum>(&self, family: &str, labels: &[&str]) -> Result<T> {
        let of_family =
            |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let series: Vec<_> = self.0.lines().filter(of_family).collect();
        ensure!(!series.is_empty(), "expected the family {family}, got:\n{}", self.0);
        let labelled = series.into_iter().filter(|line| labels.iter().all(|label| line.contains(label)));
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok());
        labelled.map(|line| value(line).with_context(|| format!("not such a value: {line}"))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_their_labels() {
        let scrape = Scrape(
            "# HELP a_total A.\na_total{b=\"1\",c=\"2\"} 3\na_total{b=\"2\"} 4\na_total_sum 9\nd 5\n".into(),
        );
        assert_eq!(scrape.count("a_total", &[]).unwrap(), 7);
        assert_eq!(scrape.count("a_total", &["b=\"1\""]).unwrap(), 3);
        assert_eq!(scrape.count("a_total", &["b=\"9\""]).unwrap(), 0);
        assert_eq!(scrape.count("d", &[]).unwrap(), 5);
        assert!(scrape.sum("a", &[]).is_err());
        assert!(scrape.sum("d", &[]).unwrap() > 4.9);
    }
}
