//! How often requests to a model may be sent twice: when everything fails, twice the load would not help.
//!
//! Comes in: that a request came, or the wish to send one again. Goes out: whether to. Never: a lock, nor more
//! than a given part of what came in the last ten seconds, but for a hundred that a quiet model may have.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// How many seconds are looked back at.
const SECONDS: u64 = 10;
/// How many of a second's requests may be sent again on average, however few there are.
const PER_SECOND_MIN: u64 = 10;

/// The requests of the last seconds, and how many of them were sent again.
pub(crate) struct Retries {
    /// Of a hundred requests so many may be sent again; none at all where this is 0.
    percent: u64,
    /// The second in 24 bits, then the requests in 24, then the retries in 16.
    seconds: [AtomicU64; SECONDS as usize],
}

impl Retries {
    /// None so far.
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent: percent.into(), seconds: Default::default() }
    }

    /// A request came.
    pub(crate) fn came(&self) {
        self.count(second(), Tally { requests: 1, retries: 0 });
    }

    /// Whether a request may be sent once more; if so, it counts as sent.
    pub(crate) fn admit(&self) -> bool {
        self.admit_at(second())
    }

    fn admit_at(&self, second: u64) -> bool {
        let mut all = Tally::default();
        for slot in &self.seconds {
            let (of, tally) = unpack(slot.load(Ordering::Relaxed));
            if second.wrapping_sub(of) & SECOND_MASK < SECONDS {
                all.requests += tally.requests;
                all.retries += tally.retries;
            }
        }
        let may = all.retries < self.most(all.requests);
        if may {
            self.count(second, Tally { requests: 0, retries: 1 });
        }
        may
    }

    fn most(&self, requests: u64) -> u64 {
        if self.percent == 0 { 0 } else { (requests * self.percent / 100).max(PER_SECOND_MIN * SECONDS) }
    }

    fn count(&self, second: u64, one: Tally) {
        let slot = &self.seconds[(second % SECONDS) as usize];
        let add = |packed| {
            let (of, tally) = unpack(packed);
            let before = if of == second & SECOND_MASK { tally } else { Tally::default() };
            let requests = (before.requests + one.requests).min(REQUESTS_MASK);
            let retries = (before.retries + one.retries).min(RETRIES_MASK);
            Some((second & SECOND_MASK) << 40 | requests << 16 | retries)
        };
        // It cannot fail: there always is a next value.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    requests: u64,
    retries: u64,
}

const SECOND_MASK: u64 = (1 << 24) - 1;
const REQUESTS_MASK: u64 = (1 << 24) - 1;
const RETRIES_MASK: u64 = (1 << 16) - 1;

fn unpack(packed: u64) -> (u64, Tally) {
    let tally = Tally { requests: packed >> 16 & REQUESTS_MASK, retries: packed & RETRIES_MASK };
    (packed >> 40, tally)
}

/// Seconds since some moment, from 10: an empty slot, which is of second 0, must not pass for a recent one.
fn second() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs() + SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(retries: &Retries, second: u64) -> usize {
        (0..100_000).take_while(|_| retries.admit_at(second)).count()
    }

    fn came(retries: &Retries, second: u64, requests: u64) {
        retries.count(second, Tally { requests, retries: 0 });
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
    fn without_a_part_there_is_none_at_all() {
        let retries = Retries::new(0);
        came(&retries, 10, 5_000);
        assert_eq!(admitted(&retries, 10), 0);
    }

    #[test]
    fn a_slot_that_is_used_again_forgets_its_last_second() {
        let retries = Retries::new(10);
        came(&retries, 10, 50_000);
        came(&retries, 1_000_010, 10);
        assert_eq!(admitted(&retries, 1_000_010), 100);
        assert!(retries.admit() && second() >= SECONDS);
    }
}
