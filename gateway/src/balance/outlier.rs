//! Whether a pod gets requests: none for a while after it failed, then one to try, then more and more.
//!
//! Comes in: how each call to it went. Goes out: how it stands, and how much of a share it may have. Never: a call, nor
//! a pod that is shut out for good; each time ends. An answer before that shows that the pod was not ill: it then has its
//! whole share at once.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::clock::{millis, now};

/// How many times a pod is shut out for twice as long as the time before: 32 times as long is the most.
const DOUBLED_MAX: u32 = 5;
/// How many invalid answers in a row count as a failure of the pod: one may be due to the rows.
const INVALID_MAX: u32 = 3;
/// How long a pod that is new, or is back, has less than its share: it has no warm memory and no connections yet.
const SLOW_START: Duration = Duration::from_secs(10);
/// The share that it begins with.
const FIRST_SHARE: f32 = 0.1;

/// How many of so many pods that can be reached may be out at once: two thirds, never all, but one where there are two. Where
/// more fail, the load is too high, and the rest would fail under what the ejected ones leave to them.
pub(crate) fn out_max(reachable: usize) -> usize {
    if reachable < 2 { 0 } else { (reachable * 2 / 3).max(1) }
}

/// How a pod stands, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Its time out is over; the next request shows whether it answers again.
    OnTrial,
    /// It gets its share.
    InUse,
    /// It has less than a share so far, and this request is none of it.
    HeldBack,
    /// It gets no request while there is another pod.
    Out,
}

/// The health of one pod.
pub(crate) struct Health {
    /// How long the first failure in a row shuts out.
    time_out: Duration,
    /// Since when it is in use beside others; see `clock`.
    since: AtomicU64,
    /// When its time out ends; 0 while it has none.
    out_until: AtomicU64,
    failures_in_a_row: AtomicU32,
    invalid_in_a_row: AtomicU32,
    /// Whether a request is on its way that shows whether it answers again.
    is_tried: AtomicBool,
    /// Whether the last attempt to reach it failed.
    is_gone: AtomicBool,
}

impl Health {
    /// The health of a pod that is new; where it joins others, it begins with less than its share.
    pub(crate) fn new(time_out: Duration, joins_others: bool) -> Self {
        let since = if joins_others { now() } else { 0 };
        Self {
            time_out,
            since: AtomicU64::new(since),
            out_until: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            invalid_in_a_row: AtomicU32::new(0),
            is_tried: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        }
    }

    /// How it stands towards one request; `chance` gives a number from 0 to 1.
    pub(crate) fn standing(&self, now: u64, chance: impl FnOnce() -> f32) -> Standing {
        match self.out_until.load(Ordering::Relaxed) {
            0 => {
                let share = self.share(now);
                if share >= 1.0 || chance() < share { Standing::InUse } else { Standing::HeldBack }
            }
            until if now < until || self.is_tried.load(Ordering::Relaxed) => Standing::Out,
            _ => Standing::OnTrial,
        }
    }

    /// The part of a full share that it may have, above 0 and at most 1.
    fn share(&self, now: u64) -> f32 {
        let since = self.since.load(Ordering::Relaxed);
        let age = if since == 0 { u64::MAX } else { now.saturating_sub(since) };
        let full = millis(SLOW_START);
        if age >= full { 1.0 } else { FIRST_SHARE + (1.0 - FIRST_SHARE) * age as f32 / full as f32 }
    }

    /// Begins the trial, if this is the first to come for it.
    pub(crate) fn begin_trial(&self) -> bool {
        !self.is_tried.swap(true, Ordering::Relaxed)
    }

    /// Whoever began the trial is done, whatever came of it.
    pub(crate) fn end_trial(&self) {
        self.is_tried.store(false, Ordering::Relaxed);
    }

    /// It answered.
    pub(crate) fn answered(&self, now: u64) {
        // Most pods are well most of the time: to look costs less than to write where others look.
        clear(&self.failures_in_a_row);
        clear(&self.invalid_in_a_row);
        if self.is_gone.load(Ordering::Relaxed) {
            self.is_gone.store(false, Ordering::Relaxed);
        }
        let out_until = self.out_until.load(Ordering::Relaxed);
        if out_until != 0 {
            if now >= out_until {
                self.since.store(now, Ordering::Relaxed);
            }
            self.out_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it gets no request at `now` while there is another pod.
    pub(crate) fn is_out(&self, now: u64) -> bool {
        now < self.out_until.load(Ordering::Relaxed)
    }

    /// It could not be reached.
    pub(crate) fn is_out_of_reach(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        self.failed();
    }

    /// It gave no answer, or said that it has none to give.
    pub(crate) fn failed(&self) {
        self.failed_at(now());
    }

    fn failed_at(&self, now: u64) {
        // Many requests may be on their way to a pod that fails: together they count once.
        let is_out = now < self.out_until.load(Ordering::Relaxed);
        if is_out || self.time_out.is_zero() {
            return;
        }
        let before = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).min(DOUBLED_MAX);
        self.out_until.store(now + (millis(self.time_out) << before), Ordering::Relaxed);
    }

    /// It gave something that is no answer; whether it has failed with that.
    pub(crate) fn was_invalid(&self) -> bool {
        self.invalid_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= INVALID_MAX
    }

    /// Whether it has failed since it last answered.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) > 0
    }

    /// Whether the last attempt to reach it failed.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
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
    fn standing(health: &Health, now: u64) -> Standing {
        health.standing(now, || 0.0)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_in_a_row_shuts_out_for_twice_as_long_up_to_a_limit() {
        let (health, mut at) = (Health::new(SECOND, false), now());
        for seconds in [1, 2, 4, 8, 16, 32, 32, 32] {
            health.failed_at(at);
            assert_eq!(standing(&health, at + seconds * 1000 - 1), Standing::Out);
            health.failed_at(at + seconds * 1000 - 1);
            at += seconds * 1000;
            assert_eq!(standing(&health, at), Standing::OnTrial, "many failures at once count as one");
        }
        health.answered(at);
        assert_eq!(standing(&health, at), Standing::InUse);
        health.failed_at(at);
        assert_eq!(standing(&health, at + 1000), Standing::OnTrial, "an answer ends the row");
    }

    #[test]
    fn one_request_at_a_time_shows_whether_a_pod_answers_again() {
        let (health, at) = (Health::new(SECOND, false), now());
        health.failed_at(at);
        let at = at + 1000;
        assert!(health.begin_trial() && !health.begin_trial());
        assert_eq!(standing(&health, at), Standing::Out, "others do not come for it meanwhile");
        health.end_trial();
        assert_eq!(standing(&health, at), Standing::OnTrial, "nothing came of it");
        assert!(health.begin_trial());
        health.answered(at);
        assert_eq!(standing(&health, at), Standing::InUse);
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_all_when_a_pod_is_new_and_when_it_is_back() {
        let (health, at) = (Health::new(SECOND, true), now());
        let share = |after: u64| format!("{:.0}", health.share(at + after) * 10.0);
        assert_eq!([0, 5_000, 10_000, 100_000].map(share), ["1", "6", "10", "10"]);
        health.failed_at(at + 100_000);
        health.answered(at + 100_500);
        assert_eq!(share(100_500), "10", "it answered before its time out was over");
        health.failed_at(at + 100_500);
        health.answered(at + 101_500);
        assert_eq!([101_500, 111_500].map(share), ["1", "10"]);
        let held_back = |chance: f32| health.standing(at + 106_500, || chance) == Standing::HeldBack;
        assert!(!held_back(0.54) && held_back(0.56), "half of its time it has half of its share, and a bit");
        health.answered(at + 111_500);
        assert_eq!(share(111_500), "10", "only who was out begins anew");
    }

    #[test]
    fn a_few_invalid_answers_are_no_failure_unless_in_a_row() {
        let health = Health::new(SECOND, false);
        for _ in 0..10 {
            assert!(!health.was_invalid() && !health.was_invalid());
            health.answered(now());
        }
        assert!(!health.was_invalid() && !health.was_invalid() && health.was_invalid());
    }

    #[test]
    fn without_a_time_out_nobody_is_shut_out() {
        let health = Health::new(Duration::ZERO, false);
        health.is_out_of_reach();
        assert!(health.is_gone());
        assert_eq!(standing(&health, now()), Standing::InUse);
    }
}
