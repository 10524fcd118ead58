//! Outlier detection and slow start. A failed endpoint is ejected for a while, then gets one probe. After a success it starts
//! with a small share of requests, which grows. A success before the ejection ends shows that the endpoint is healthy: it
//! returns to its full share at once. Every ejection ends.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::clock::{millis, now};

/// How often the ejection time doubles: at most to 32 times the base.
const DOUBLINGS_MAX: u32 = 5;
/// How many consecutive invalid responses count as a failure. A single one may be caused by its rows.
const CONSECUTIVE_INVALID_MAX: u32 = 3;
/// How long a new or returning endpoint has a reduced share: its caches and connections are cold.
const SLOW_START: Duration = Duration::from_secs(10);
/// The share at the start of slow start.
const INITIAL_WEIGHT: f32 = 0.1;

/// How many of the reachable endpoints may be ejected at once: two thirds, or one of two. If more fail, the load is too high, and
/// the remaining endpoints would fail under it.
pub(crate) fn max_ejected(reachable: usize) -> usize {
    if reachable < 2 { 0 } else { (reachable * 2 / 3).max(1) }
}

/// The availability of an endpoint, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Availability {
    /// The ejection is over; the next request is the probe.
    Probing,
    /// Gets its full share.
    Healthy,
    /// In slow start, and this request is outside its current share.
    SlowStart,
    /// Gets no request while another endpoint is available.
    Ejected,
}

/// The health of one endpoint.
pub(crate) struct OutlierDetector {
    /// The ejection time after the first failure.
    base_ejection_time: Duration,
    /// When slow start began, by `clock`; 0 without one.
    slow_start_since: AtomicU64,
    /// When the ejection ends, by `clock`; 0 if not ejected.
    ejected_until: AtomicU64,
    consecutive_failures: AtomicU32,
    consecutive_invalid: AtomicU32,
    /// Whether a probe is in flight.
    is_probed: AtomicBool,
    /// Whether the last connection attempt failed.
    is_unreachable: AtomicBool,
}

impl OutlierDetector {
    /// A new endpoint, in slow start if it joins endpoints that are in use.
    pub(crate) fn new(base_ejection_time: Duration, joins_others: bool) -> Self {
        let slow_start_since = if joins_others { now() } else { 0 };
        Self {
            base_ejection_time,
            slow_start_since: AtomicU64::new(slow_start_since),
            ejected_until: AtomicU64::new(0),
            consecutive_failures: AtomicU32::new(0),
            consecutive_invalid: AtomicU32::new(0),
            is_probed: AtomicBool::new(false),
            is_unreachable: AtomicBool::new(false),
        }
    }

    /// The availability for one request; `chance` returns a random number from 0 to 1.
    pub(crate) fn availability(&self, now: u64, chance: impl FnOnce() -> f32) -> Availability {
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => {
                let weight = self.weight(now);
                if weight >= 1.0 || chance() < weight {
                    Availability::Healthy
                } else {
                    Availability::SlowStart
                }
            }
            until if now < until || self.is_probed.load(Ordering::Relaxed) => Availability::Ejected,
            _ => Availability::Probing,
        }
    }

    /// The current share, above 0 and at most 1.
    fn weight(&self, now: u64) -> f32 {
        let slow_start_since = self.slow_start_since.load(Ordering::Relaxed);
        let age = if slow_start_since == 0 { u64::MAX } else { now.saturating_sub(slow_start_since) };
        let full = millis(SLOW_START);
        if age >= full { 1.0 } else { INITIAL_WEIGHT + (1.0 - INITIAL_WEIGHT) * age as f32 / full as f32 }
    }

    /// Starts the probe, unless one is in flight.
    pub(crate) fn begin_probe(&self) -> bool {
        !self.is_probed.swap(true, Ordering::Relaxed)
    }

    /// Ends the probe, whatever its result.
    pub(crate) fn end_probe(&self) {
        self.is_probed.store(false, Ordering::Relaxed);
    }

    /// Records a response.
    pub(crate) fn record_success(&self, now: u64) {
        // Values rarely change: reading a shared cache line is cheaper than writing it.
        clear(&self.consecutive_failures);
        clear(&self.consecutive_invalid);
        if self.is_unreachable.load(Ordering::Relaxed) {
            self.is_unreachable.store(false, Ordering::Relaxed);
        }
        let ejected_until = self.ejected_until.load(Ordering::Relaxed);
        if ejected_until != 0 {
            if now >= ejected_until {
                self.slow_start_since.store(now, Ordering::Relaxed);
            }
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the endpoint is ejected at `now`.
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        now < self.ejected_until.load(Ordering::Relaxed)
    }

    /// Records a failed connection attempt.
    pub(crate) fn record_unreachable(&self) {
        self.is_unreachable.store(true, Ordering::Relaxed);
        self.record_failure();
    }

    /// Records a failure: no response, or a response that the endpoint is not ready.
    pub(crate) fn record_failure(&self) {
        self.record_failure_at(now());
    }

    fn record_failure_at(&self, now: u64) {
        // Concurrent requests to a failing endpoint count as one failure.
        let is_ejected = now < self.ejected_until.load(Ordering::Relaxed);
        if is_ejected || self.base_ejection_time.is_zero() {
            return;
        }
        let before = self.consecutive_failures.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS_MAX);
        self.ejected_until.store(now + (millis(self.base_ejection_time) << before), Ordering::Relaxed);
    }

    /// Records an invalid response. Returns whether it counts as a failure.
    pub(crate) fn record_invalid_response(&self) -> bool {
        self.consecutive_invalid.fetch_add(1, Ordering::Relaxed) + 1 >= CONSECUTIVE_INVALID_MAX
    }

    /// Whether it has failed since its last success.
    pub(crate) fn is_failing(&self) -> bool {
        self.consecutive_failures.load(Ordering::Relaxed) > 0
    }

    /// Whether the last connection attempt failed.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.is_unreachable.load(Ordering::Relaxed)
    }
}

fn clear(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The availability where chance never excludes a request.
    fn availability(detector: &OutlierDetector, now: u64) -> Availability {
        detector.availability(now, || 0.0)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_consecutive_failure_doubles_the_ejection_time_up_to_a_limit() {
        let (detector, mut at) = (OutlierDetector::new(SECOND, false), now());
        for seconds in [1, 2, 4, 8, 16, 32, 32, 32] {
            detector.record_failure_at(at);
            assert_eq!(availability(&detector, at + seconds * 1000 - 1), Availability::Ejected);
            detector.record_failure_at(at + seconds * 1000 - 1);
            at += seconds * 1000;
            assert_eq!(
                availability(&detector, at),
                Availability::Probing,
                "concurrent failures count as one"
            );
        }
        detector.record_success(at);
        assert_eq!(availability(&detector, at), Availability::Healthy);
        detector.record_failure_at(at);
        assert_eq!(availability(&detector, at + 1000), Availability::Probing, "a success resets the count");
    }

    #[test]
    fn one_probe_at_a_time_is_sent_after_an_ejection() {
        let (detector, at) = (OutlierDetector::new(SECOND, false), now());
        detector.record_failure_at(at);
        let at = at + 1000;
        assert!(detector.begin_probe() && !detector.begin_probe());
        assert_eq!(availability(&detector, at), Availability::Ejected, "no second probe at the same time");
        detector.end_probe();
        assert_eq!(availability(&detector, at), Availability::Probing, "the next request probes again");
        assert!(detector.begin_probe());
        detector.record_success(at);
        assert_eq!(availability(&detector, at), Availability::Healthy);
    }

    #[test]
    fn the_share_grows_from_a_tenth_to_full_for_new_and_returning_endpoints() {
        let (detector, at) = (OutlierDetector::new(SECOND, true), now());
        let weight = |after: u64| format!("{:.0}", detector.weight(at + after) * 10.0);
        assert_eq!([0, 5_000, 10_000, 100_000].map(weight), ["1", "6", "10", "10"]);
        detector.record_failure_at(at + 100_000);
        detector.record_success(at + 100_500);
        assert_eq!(weight(100_500), "10", "it answered before its ejection ended");
        detector.record_failure_at(at + 100_500);
        detector.record_success(at + 101_500);
        assert_eq!([101_500, 111_500].map(weight), ["1", "10"]);
        let excluded =
            |chance: f32| detector.availability(at + 106_500, || chance) == Availability::SlowStart;
        assert!(!excluded(0.54) && excluded(0.56), "halfway through slow start the share is 0.55");
        detector.record_success(at + 111_500);
        assert_eq!(weight(111_500), "10", "only an ejection restarts slow start");
    }

    #[test]
    fn only_consecutive_invalid_responses_count_as_a_failure() {
        let detector = OutlierDetector::new(SECOND, false);
        for _ in 0..10 {
            assert!(!detector.record_invalid_response() && !detector.record_invalid_response());
            detector.record_success(now());
        }
        assert!(
            !detector.record_invalid_response()
                && !detector.record_invalid_response()
                && detector.record_invalid_response()
        );
    }

    #[test]
    fn an_ejection_time_of_zero_disables_ejection() {
        let detector = OutlierDetector::new(Duration::ZERO, false);
        detector.record_unreachable();
        assert!(detector.is_unreachable());
        assert_eq!(availability(&detector, now()), Availability::Healthy);
    }
}
