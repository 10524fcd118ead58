//! Whether a pod gets requests: none for a while after it failed, then one to try, then more and more.
//!
//! Comes in: how each call to it went. Goes out: how it stands, and how much of a share it may have. Never: a call, nor
//! a pod that is shut out for good; each time ends. An answer before that shows that the pod was not ill: it then has its
//! whole share at once.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::clock::{millis, now};

/// How many times a pod is shut out for twice as long as the time before: 32 times as long is the most.
const DOUBLINGS_MAX: u32 = 5;
/// How many invalid answers in a row count as a failure of the pod: one may be due to the rows.
const CONSECUTIVE_INVALID_MAX: u32 = 3;
/// How long a pod that is new, or is back, has less than its share: it has no warm memory and no connections yet.
const SLOW_START: Duration = Duration::from_secs(10);
/// The share that it begins with.
const INITIAL_WEIGHT: f32 = 0.1;

/// How many of so many pods that can be reached may be out at once: two thirds, never all, but one where there are two. Where
/// more fail, the load is too high, and the rest would fail under what the ejected ones leave to them.
pub(crate) fn max_ejected(reachable: usize) -> usize {
    if reachable < 2 { 0 } else { (reachable * 2 / 3).max(1) }
}

/// How a pod stands, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Availability {
    /// Its time out is over; the next request shows whether it answers again.
    Probing,
    /// It gets its share.
    Healthy,
    /// It has less than a share so far, and this request is none of it.
    SlowStart,
    /// It gets no request while there is another pod.
    Ejected,
}

/// The health of one pod.
pub(crate) struct OutlierDetector {
    /// How long the first failure in a row shuts out.
    base_ejection_time: Duration,
    /// Since when it is in use beside others; see `clock`.
    slow_start_since: AtomicU64,
    /// When its time out ends; 0 while it has none.
    ejected_until: AtomicU64,
    consecutive_failures: AtomicU32,
    consecutive_invalid: AtomicU32,
    /// Whether a request is on its way that shows whether it answers again.
    is_probed: AtomicBool,
    /// Whether the last attempt to reach it failed.
    is_unreachable: AtomicBool,
}

impl OutlierDetector {
    /// The health of a pod that is new; where it joins others, it begins with less than its share.
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

    /// How it stands towards one request; `chance` gives a number from 0 to 1.
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

    /// The part of a full share that it may have, above 0 and at most 1.
    fn weight(&self, now: u64) -> f32 {
        let slow_start_since = self.slow_start_since.load(Ordering::Relaxed);
        let age = if slow_start_since == 0 { u64::MAX } else { now.saturating_sub(slow_start_since) };
        let full = millis(SLOW_START);
        if age >= full { 1.0 } else { INITIAL_WEIGHT + (1.0 - INITIAL_WEIGHT) * age as f32 / full as f32 }
    }

    /// Begins the trial, if this is the first to come for it.
    pub(crate) fn begin_probe(&self) -> bool {
        !self.is_probed.swap(true, Ordering::Relaxed)
    }

    /// Whoever began the trial is done, whatever came of it.
    pub(crate) fn end_probe(&self) {
        self.is_probed.store(false, Ordering::Relaxed);
    }

    /// It answered.
    pub(crate) fn record_success(&self, now: u64) {
        // Most pods are well most of the time: to look costs less than to write where others look.
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

    /// Whether it gets no request at `now` while there is another pod.
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        now < self.ejected_until.load(Ordering::Relaxed)
    }

    /// It could not be reached.
    pub(crate) fn record_unreachable(&self) {
        self.is_unreachable.store(true, Ordering::Relaxed);
        self.record_failure();
    }

    /// It gave no answer, or said that it has none to give.
    pub(crate) fn record_failure(&self) {
        self.record_failure_at(now());
    }

    fn record_failure_at(&self, now: u64) {
        // Many requests may be on their way to a pod that fails: together they count once.
        let is_ejected = now < self.ejected_until.load(Ordering::Relaxed);
        if is_ejected || self.base_ejection_time.is_zero() {
            return;
        }
        let before = self.consecutive_failures.fetch_add(1, Ordering::Relaxed).min(DOUBLINGS_MAX);
        self.ejected_until.store(now + (millis(self.base_ejection_time) << before), Ordering::Relaxed);
    }

    /// It gave something that is no answer; whether it has failed with that.
    pub(crate) fn record_invalid_response(&self) -> bool {
        self.consecutive_invalid.fetch_add(1, Ordering::Relaxed) + 1 >= CONSECUTIVE_INVALID_MAX
    }

    /// Whether it has failed since it last answered.
    pub(crate) fn is_failing(&self) -> bool {
        self.consecutive_failures.load(Ordering::Relaxed) > 0
    }

    /// Whether the last attempt to reach it failed.
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

    /// How it stands where chance holds nobody back.
    fn availability(detector: &OutlierDetector, now: u64) -> Availability {
        detector.availability(now, || 0.0)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_in_a_row_shuts_out_for_twice_as_long_up_to_a_limit() {
        let (detector, mut at) = (OutlierDetector::new(SECOND, false), now());
        for seconds in [1, 2, 4, 8, 16, 32, 32, 32] {
            detector.record_failure_at(at);
            assert_eq!(availability(&detector, at + seconds * 1000 - 1), Availability::Ejected);
            detector.record_failure_at(at + seconds * 1000 - 1);
            at += seconds * 1000;
            assert_eq!(
                availability(&detector, at),
                Availability::Probing,
                "many failures at once count as one"
            );
        }
        detector.record_success(at);
        assert_eq!(availability(&detector, at), Availability::Healthy);
        detector.record_failure_at(at);
        assert_eq!(availability(&detector, at + 1000), Availability::Probing, "an answer ends the row");
    }

    #[test]
    fn one_request_at_a_time_shows_whether_a_pod_answers_again() {
        let (detector, at) = (OutlierDetector::new(SECOND, false), now());
        detector.record_failure_at(at);
        let at = at + 1000;
        assert!(detector.begin_probe() && !detector.begin_probe());
        assert_eq!(availability(&detector, at), Availability::Ejected, "others do not come for it meanwhile");
        detector.end_probe();
        assert_eq!(availability(&detector, at), Availability::Probing, "nothing came of it");
        assert!(detector.begin_probe());
        detector.record_success(at);
        assert_eq!(availability(&detector, at), Availability::Healthy);
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_all_when_a_pod_is_new_and_when_it_is_back() {
        let (detector, at) = (OutlierDetector::new(SECOND, true), now());
        let weight = |after: u64| format!("{:.0}", detector.weight(at + after) * 10.0);
        assert_eq!([0, 5_000, 10_000, 100_000].map(weight), ["1", "6", "10", "10"]);
        detector.record_failure_at(at + 100_000);
        detector.record_success(at + 100_500);
        assert_eq!(weight(100_500), "10", "it answered before its time out was over");
        detector.record_failure_at(at + 100_500);
        detector.record_success(at + 101_500);
        assert_eq!([101_500, 111_500].map(weight), ["1", "10"]);
        let held_back =
            |chance: f32| detector.availability(at + 106_500, || chance) == Availability::SlowStart;
        assert!(!held_back(0.54) && held_back(0.56), "half of its time it has half of its share, and a bit");
        detector.record_success(at + 111_500);
        assert_eq!(weight(111_500), "10", "only who was out begins anew");
    }

    #[test]
    fn a_few_invalid_answers_are_no_failure_unless_in_a_row() {
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
    fn without_a_time_out_nobody_is_shut_out() {
        let detector = OutlierDetector::new(Duration::ZERO, false);
        detector.record_unreachable();
        assert!(detector.is_unreachable());
        assert_eq!(availability(&detector, now()), Availability::Healthy);
    }
}
