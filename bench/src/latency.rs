//! Percentiles and medians. They are exact: all values are kept, without buckets.

use serde::{Deserialize, Serialize};

/// Percentiles of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// The percentiles of latencies in nanoseconds; all 0 if there are no latencies.
pub(crate) fn percentiles(mut nanoseconds: Vec<u64>) -> Percentiles {
    nanoseconds.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (nanoseconds.len() * per_mille).div_ceil(1000).max(1);
        nanoseconds.get(rank - 1).map_or(0.0, |&value| value as f64 / 1e3)
    };
    Percentiles { p50: at(500), p90: at(900), p99: at(990), p999: at(999), max: at(1000) }
}

/// The median; for an even number of values the mean of the middle two, without values 0.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 1) => values[middle],
        (middle, _) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn a_percentile_is_the_least_latency_that_covers_its_share() {
        let thousand = (1..=1000).rev().map(|us| us * 1000).collect();
        let expected = Percentiles { p50: 500.0, p90: 900.0, p99: 990.0, p999: 999.0, max: 1000.0 };
        assert_eq!(percentiles(thousand), expected);
        let one = Percentiles { p50: 7.0, p90: 7.0, p99: 7.0, p999: 7.0, max: 7.0 };
        assert_eq!(percentiles(vec![7000]), one);
        assert_eq!(percentiles(Vec::new()), Percentiles::default());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        for (values, expected) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0], 5.0), (vec![5.0, 1.0, 3.0], 3.0)]
        {
            assert_eq!(median(values.clone()).total_cmp(&expected), Ordering::Equal, "{values:?}");
        }
    }
}
