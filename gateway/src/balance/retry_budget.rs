//! How often requests to a model may be sent twice: when everything fails, twice the load would not help.
//!
//! Comes in: that a request came, or the wish to send one again. Goes out: whether to. Never: a lock, nor more
//! than a given part of what came in the last ten seconds, but for a hundred that a quiet model may have.

use crate::balance::clock::second;
use crate::balance::window::Recent;

/// How many seconds are looked back at.
const SECONDS: usize = 10;
/// How many of a second's requests may be sent again on average, however few there are.
const PER_SECOND_MIN: u64 = 10;
/// A hedge of more rows than this counts as several.
const ROWS: usize = 8;

/// The requests of the last seconds, and how many of them were sent again.
pub(crate) struct Retries {
    /// Of a hundred requests so many may be sent again; none at all where this is 0.
    percent: u64,
    came: Recent<SECONDS>,
    sent_again: Recent<SECONDS>,
}

impl Retries {
    /// None so far.
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent: percent.into(), came: Recent::default(), sent_again: Recent::default() }
    }

    /// A request came.
    pub(crate) fn came(&self, now: u64) {
        self.came.count(second(now));
    }

    /// Whether a request that failed may be sent once more; if so, it counts as sent.
    pub(crate) fn admit(&self, now: u64) -> bool {
        self.admit_as(1, now)
    }

    /// Whether a request of `rows` rows may be sent once more although its pod still works on it. It counts by its rows:
    /// the pods do all of that work twice.
    pub(crate) fn admit_hedge(&self, rows: usize, now: u64) -> bool {
        self.admit_as(u32::try_from(rows.div_ceil(ROWS)).unwrap_or(u32::MAX).max(1), now)
    }

    fn admit_as(&self, times: u32, now: u64) -> bool {
        let now = second(now);
        let sent = self.sent_again.numbers(now).sum::<u64>() + u64::from(times);
        let may = sent <= self.most(self.came.numbers(now).sum());
        if may {
            self.sent_again.add(now, times);
        }
        may
    }

    fn most(&self, requests: u64) -> u64 {
        let least = PER_SECOND_MIN * SECONDS as u64;
        if self.percent == 0 { 0 } else { (requests * self.percent / 100).max(least) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(retries: &Retries, second: u64) -> usize {
        (0..100_000).take_while(|_| retries.admit(second * 1000)).count()
    }

    fn came(retries: &Retries, second: u64, requests: usize) {
        (0..requests).for_each(|_| retries.came(second * 1000));
    }

    #[test]
    fn a_quiet_model_may_have_ten_retries_a_second_over_ten_seconds() {
        let retries = Retries::new(10);
        came(&retries, 10, 3);
        assert_eq!(admitted(&retries, 10), 100);
        assert_eq!(admitted(&retries, 19), 0, "they still count");
        assert_eq!(admitted(&retries, 20), 100, "they do not any more");
    }

    #[test]
    fn a_busy_model_may_have_a_tenth_of_its_requests() {
        let retries = Retries::new(10);
        for second in 10..20 {
            came(&retries, second, 5_000);
        }
        assert_eq!(admitted(&retries, 19), 5_000);
        came(&retries, 20, 20_000);
        assert_eq!(admitted(&retries, 20), 1_500, "second 10 is over, with 5,000 requests");
    }

    #[test]
    fn a_hedge_counts_by_its_rows() {
        let retries = Retries::new(10);
        let hedges = |rows: usize, second: u64| {
            (0..1000).take_while(|_| retries.admit_hedge(rows, second * 1000)).count()
        };
        assert_eq!([hedges(8, 10), hedges(1, 10)], [100, 0]);
        assert_eq!(hedges(63, 20), 12);
        assert_eq!(admitted(&retries, 20), 4, "what is left is for others");
        assert_eq!(hedges(usize::MAX, 30), 0);
    }

    #[test]
    fn without_a_part_there_is_none_at_all() {
        let retries = Retries::new(0);
        came(&retries, 10, 5_000);
        assert_eq!(admitted(&retries, 10), 0);
    }
}
