//! How many requests for one model are worked on at once: as many as it answers within a second.
//!
//! Comes in: that a request begins, that one was answered, and that a pod has too much to do. Goes out: whether there
//! is room. Never: room that another model needs; each has a share of its own, and who finds no room is told at once,
//! here and not by a pod: it needs its processor for those that it answers.
//!
//! Where answers come at a steady rate, requests that are worked on take their number divided by the rate (Little's
//! law): to bound their number by the rate is to bound how long they take.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::balance::clock::second;
use crate::balance::window::SlidingWindow;

/// So many are worked on at once for each pod, however few were answered lately: the model may just not be asked.
const PER_ENDPOINT_MIN: usize = 128;
/// So many where pods have refused some lately, though they answer fewer than that within [`PATIENCE`].
const PER_ENDPOINT_SHEDDING: usize = 4;
/// Where pods refuse, as many are worked on as are answered within this part of a second: half of what pods let wait, so
/// that nobody waits at one pod, is refused by it in the end, and waits at another.
const TARGET_SECONDS: f64 = 0.5;
/// How many seconds are looked back at, the present one included.
const SECONDS: usize = 4;

/// The share of one model.
#[derive(Default)]
pub(crate) struct ConcurrencyLimit {
    in_progress: AtomicU32,
    answered: SlidingWindow<SECONDS>,
    /// Refused by pods.
    overloaded: SlidingWindow<SECONDS>,
}

/// A request that is worked on, until this is dropped.
pub(crate) struct Permit<'a>(&'a ConcurrencyLimit);

impl ConcurrencyLimit {
    /// Takes room for one request to a model with so many pods, if there is any.
    pub(crate) fn try_acquire(&self, endpoints: usize, now: u64) -> Option<Permit<'_>> {
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed) as usize;
        let permit = Permit(self);
        let endpoints = endpoints.max(1);
        // To look back costs more, and is needed only where there is much to do.
        let has_room = before < PER_ENDPOINT_SHEDDING * endpoints
            || if self.is_shedding(now) {
                (before as f64) < self.responses_per_second(now) as f64 * TARGET_SECONDS
            } else {
                before < PER_ENDPOINT_MIN * endpoints || before < self.responses_per_second(now)
            };
        has_room.then_some(permit)
    }

    /// A request was answered.
    pub(crate) fn record_response(&self, now: u64) {
        self.answered.increment(second(now));
    }

    /// A pod has too much to do, and refused a request.
    pub(crate) fn record_overload(&self, now: u64) {
        self.overloaded.increment(second(now));
    }

    /// Whether a pod refused any in the last seconds.
    fn is_shedding(&self, now: u64) -> bool {
        self.overloaded.counts(second(now)).any(|overloaded| overloaded > 0)
    }

    /// The most answers in one of the last seconds.
    fn responses_per_second(&self, now: u64) -> usize {
        self.answered.counts(second(now)).max().unwrap_or_default() as usize
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn a_model_that_was_not_asked_has_room_for_a_few_by_pod() {
        let limit = ConcurrencyLimit::default();
        let mut permit: Vec<_> = (0..2 * PER_ENDPOINT_MIN).map_while(|_| limit.try_acquire(2, NOW)).collect();
        assert_eq!(permit.len(), 2 * PER_ENDPOINT_MIN);
        assert!(limit.try_acquire(2, NOW).is_none() && limit.try_acquire(0, NOW).is_none());
        permit.pop();
        assert!(limit.try_acquire(2, NOW).is_some());
        drop(permit);
        assert_eq!(limit.in_progress.load(Ordering::Relaxed), 0, "who was refused left nothing");
    }

    #[test]
    fn a_model_whose_pods_refuse_has_room_for_what_it_answers() {
        let limit = ConcurrencyLimit::default();
        let room = |second: u64| {
            let permit: Vec<_> = (0..1000).map_while(|_| limit.try_acquire(2, second * 1000)).collect();
            permit.len()
        };
        limit.record_overload(10_000);
        assert_eq!(
            [10, 13, 14].map(room),
            [2 * PER_ENDPOINT_SHEDDING, 2 * PER_ENDPOINT_SHEDDING, 2 * PER_ENDPOINT_MIN]
        );
        (0..40).for_each(|_| limit.record_response(10_000));
        assert_eq!([10, 13, 14].map(room), [20, 20, 2 * PER_ENDPOINT_MIN]);
    }

    #[test]
    fn a_model_that_answers_much_has_room_for_a_second() {
        let limit = ConcurrencyLimit::default();
        for second in [10, 10, 10, 11] {
            (0..300).for_each(|_| limit.record_response(second * 1000));
        }
        let room = |second: u64| limit.responses_per_second(second * 1000);
        assert_eq!([10, 11, 13, 14, 15, 1000].map(room), [900, 900, 900, 300, 0, 0]);
        let _taken: Vec<_> = (0..PER_ENDPOINT_MIN).map_while(|_| limit.try_acquire(1, NOW)).collect();
        assert!(limit.try_acquire(1, NOW).is_none());
        (0..500).for_each(|_| limit.record_response(NOW));
        let more: Vec<_> = (0..1000).map_while(|_| limit.try_acquire(1, NOW)).collect();
        assert_eq!(more.len() + PER_ENDPOINT_MIN, 500);
    }
}
