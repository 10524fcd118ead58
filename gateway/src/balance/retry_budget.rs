//! The retry budget of a model: retries and hedges are limited to a percentage of the requests of the last ten seconds, with a
//! minimum for models with little traffic. When everything fails, doubling the load would not help. Lock-free.

use crate::balance::clock::second;
use crate::balance::window::SlidingWindow;

/// The length of the window in seconds.
const SECONDS: usize = 10;
/// The minimum budget, in retries per second on average.
const PER_SECOND_MIN: u64 = 10;
/// A hedge counts once per this many rows.
const ROWS_PER_RETRY: usize = 8;

/// The requests and retries of the window.
pub(crate) struct RetryBudget {
    /// The budget in percent of the requests; 0 disables retries.
    percent: u64,
    requests: SlidingWindow<SECONDS>,
    retries: SlidingWindow<SECONDS>,
}

impl RetryBudget {
    /// An empty window.
    pub(crate) fn new(percent: u8) -> Self {
        Self {
            percent: percent.into(),
            requests: SlidingWindow::default(),
            retries: SlidingWindow::default(),
        }
    }

    /// Records a request.
    pub(crate) fn record_request(&self, now: u64) {
        self.requests.increment(second(now));
    }

    /// Takes one retry from the budget, if it allows that.
    pub(crate) fn try_retry(&self, now: u64) -> bool {
        self.try_spend(1, now)
    }

    /// Takes a hedge of `rows` rows from the budget, if it allows that. The first endpoint still works on the rows, so a hedge costs
    /// work in proportion to them.
    pub(crate) fn try_hedge(&self, rows: usize, now: u64) -> bool {
        self.try_spend(u32::try_from(rows.div_ceil(ROWS_PER_RETRY)).unwrap_or(u32::MAX).max(1), now)
    }

    fn try_spend(&self, times: u32, now: u64) -> bool {
        let now = second(now);
        let sent = self.retries.counts(now).sum::<u64>() + u64::from(times);
        let may = sent <= self.limit(self.requests.counts(now).sum());
        if may {
            self.retries.add(now, times);
        }
        may
    }

    fn limit(&self, requests: u64) -> u64 {
        let least = PER_SECOND_MIN * SECONDS as u64;
        if self.percent == 0 { 0 } else { (requests * self.percent / 100).max(least) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(budget: &RetryBudget, second: u64) -> usize {
        (0..100_000).take_while(|_| budget.try_retry(second * 1000)).count()
    }

    fn came(budget: &RetryBudget, second: u64, requests: usize) {
        (0..requests).for_each(|_| budget.record_request(second * 1000));
    }

    #[test]
    fn a_model_with_little_traffic_may_retry_ten_times_a_second() {
        let budget = RetryBudget::new(10);
        came(&budget, 10, 3);
        assert_eq!(admitted(&budget, 10), 100);
        assert_eq!(admitted(&budget, 19), 0, "the retries are in the window");
        assert_eq!(admitted(&budget, 20), 100, "the retries have left the window");
    }

    #[test]
    fn a_busy_model_may_retry_a_tenth_of_its_requests() {
        let budget = RetryBudget::new(10);
        for second in 10..20 {
            came(&budget, second, 5_000);
        }
        assert_eq!(admitted(&budget, 19), 5_000);
        came(&budget, 20, 20_000);
        assert_eq!(admitted(&budget, 20), 1_500, "the 5,000 requests of second 10 have left the window");
    }

    #[test]
    fn a_hedge_counts_in_proportion_to_its_rows() {
        let budget = RetryBudget::new(10);
        let hedges = |rows: usize, second: u64| {
            (0..1000).take_while(|_| budget.try_hedge(rows, second * 1000)).count()
        };
        assert_eq!([hedges(8, 10), hedges(1, 10)], [100, 0]);
        assert_eq!(hedges(63, 20), 12);
        assert_eq!(admitted(&budget, 20), 4, "the rest of the budget");
        assert_eq!(hedges(usize::MAX, 30), 0);
    }

    #[test]
    fn zero_percent_disables_retries() {
        let budget = RetryBudget::new(0);
        came(&budget, 10, 5_000);
        assert_eq!(admitted(&budget, 10), 0);
    }
}
