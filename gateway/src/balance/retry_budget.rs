//! How often requests to a model may be sent twice: when everything fails, twice the load would not help.
//!
//! Comes in: that a request came, or the wish to send one again. Goes out: whether to. Never: a lock, nor more
//! than a given part of what came in the last ten seconds, but for a hundred that a quiet model may have.

use crate::balance::clock::second;
use crate::balance::window::SlidingWindow;

/// How many seconds are looked back at.
const SECONDS: usize = 10;
/// How many of a second's requests may be sent again on average, however few there are.
const PER_SECOND_MIN: u64 = 10;
/// A hedge of more rows than this counts as several.
const ROWS_PER_RETRY: usize = 8;

/// The requests of the last seconds, and how many of them were sent again.
pub(crate) struct RetryBudget {
    /// Of a hundred requests so many may be sent again; none at all where this is 0.
    percent: u64,
    requests: SlidingWindow<SECONDS>,
    retries: SlidingWindow<SECONDS>,
}

impl RetryBudget {
    /// None so far.
    pub(crate) fn new(percent: u8) -> Self {
        Self {
            percent: percent.into(),
            requests: SlidingWindow::default(),
            retries: SlidingWindow::default(),
        }
    }

    /// A request came.
    pub(crate) fn record_request(&self, now: u64) {
        self.requests.increment(second(now));
    }

    /// Whether a request that failed may be sent once more; if so, it counts as sent.
    pub(crate) fn try_retry(&self, now: u64) -> bool {
        self.try_spend(1, now)
    }

    /// Whether a request of `rows` rows may be sent once more although its pod still works on it. It counts by its rows:
    /// the pods do all of that work twice.
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
    fn a_quiet_model_may_have_ten_retries_a_second_over_ten_seconds() {
        let budget = RetryBudget::new(10);
        came(&budget, 10, 3);
        assert_eq!(admitted(&budget, 10), 100);
        assert_eq!(admitted(&budget, 19), 0, "they still count");
        assert_eq!(admitted(&budget, 20), 100, "they do not any more");
    }

    #[test]
    fn a_busy_model_may_have_a_tenth_of_its_requests() {
        let budget = RetryBudget::new(10);
        for second in 10..20 {
            came(&budget, second, 5_000);
        }
        assert_eq!(admitted(&budget, 19), 5_000);
        came(&budget, 20, 20_000);
        assert_eq!(admitted(&budget, 20), 1_500, "second 10 is over, with 5,000 requests");
    }

    #[test]
    fn a_hedge_counts_by_its_rows() {
        let budget = RetryBudget::new(10);
        let hedges = |rows: usize, second: u64| {
            (0..1000).take_while(|_| budget.try_hedge(rows, second * 1000)).count()
        };
        assert_eq!([hedges(8, 10), hedges(1, 10)], [100, 0]);
        assert_eq!(hedges(63, 20), 12);
        assert_eq!(admitted(&budget, 20), 4, "what is left is for others");
        assert_eq!(hedges(usize::MAX, 30), 0);
    }

    #[test]
    fn without_a_part_there_is_none_at_all() {
        let budget = RetryBudget::new(0);
        came(&budget, 10, 5_000);
        assert_eq!(admitted(&budget, 10), 0);
    }
}
