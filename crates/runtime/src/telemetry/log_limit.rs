//! Limits the number of log lines of one kind: a burst, then a steady rate.
//!
//! A limit is one atomic number (the generic cell rate algorithm), so callers do not wait for each other.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines per second for a kind of line that is written for each request.
pub const LINES_PER_SECOND: u32 = 100;

const SECOND: u64 = 1_000_000_000;

/// The limit of one kind of line.
#[derive(Debug)]
pub struct LogLimit {
    /// Nanoseconds between two lines at the steady rate.
    interval: u64,
    /// The time by which lines may be ahead of the steady rate, in nanoseconds.
    tolerance: u64,
    /// The time at which the next line is due at the steady rate, in nanoseconds on the clock of [`now`].
    due: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    /// Allows `count` lines at once and `count` a second from then on.
    pub const fn per_second(count: u32) -> Self {
        Self::new(count, SECOND / count as u64)
    }

    /// Allows `burst` lines at once, then one a second.
    pub(crate) const fn burst(burst: u32) -> Self {
        Self::new(burst, SECOND)
    }

    const fn new(burst: u32, interval: u64) -> Self {
        let tolerance = interval * (burst as u64 - 1);
        Self { interval, tolerance, due: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Returns the number of lines that were suppressed since the last one that was written, or `None` if this line must be
    /// suppressed, too.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(now())
    }

    /// [`Self::admit`] at a given [`now`].
    pub(crate) fn admit_at(&self, now: Duration) -> Option<u64> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |due: u64| {
            (due.saturating_sub(now) <= self.tolerance).then(|| due.max(now).saturating_add(self.interval))
        };
        if self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok() {
            Some(self.suppressed.swap(0, Ordering::Relaxed))
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    /// Admits the next line.
    #[cfg(test)]
    pub(crate) fn allow_next(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    /// The number of lines that were suppressed since the last one that was written.
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }
}

/// The time since the first call, by a clock that cannot be set.
pub(crate) fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With one attempt per millisecond: the times at which lines were admitted, and the numbers of suppressed lines.
    fn admitted(limit: &LogLimit, milliseconds: std::ops::Range<u64>) -> Vec<(u64, u64)> {
        let admit = |at| limit.admit_at(Duration::from_millis(at)).map(|suppressed| (at, suppressed));
        milliseconds.filter_map(admit).collect()
    }

    #[test]
    fn after_a_burst_one_line_a_second_is_written_with_the_number_of_suppressed_lines() {
        let limit = LogLimit::burst(10);
        let burst = (0..10).map(|at| (at, 0));
        let then = [(1000, 990), (2000, 999)];
        assert_eq!(admitted(&limit, 0..3000), burst.chain(then).collect::<Vec<_>>());
        assert_eq!(limit.suppressed(), 999);
        // After a pause the burst is as long as at first.
        assert_eq!(admitted(&limit, 3_600_000..3_600_020).len(), 10);
    }

    #[test]
    fn the_rate_is_kept_over_many_seconds() {
        let limit = LogLimit::per_second(100);
        assert_eq!(admitted(&limit, 0..10_000).len(), 100 + 999, "a burst of 100, and one each 10 ms");
        assert_eq!(limit.suppressed(), 9);
    }

    #[test]
    fn a_new_limit_admits_at_once() {
        assert_eq!(LogLimit::per_second(1).admit(), Some(0));
    }
}
