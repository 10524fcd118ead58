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
use crate::balance::window::Recent;

/// So many are worked on at once for each pod, however few were answered lately: the model may just not be asked.
const PER_POD_MIN: usize = 128;
/// So many where pods have refused some lately, though they answer fewer than that within [`PATIENCE`].
const PER_POD_FULL: usize = 4;
/// Where pods refuse, as many are worked on as are answered within this part of a second: half of what pods let wait, so
/// that nobody waits at one pod, is refused by it in the end, and waits at another.
const PATIENCE: f64 = 0.5;
/// How many seconds are looked back at, the present one included.
const SECONDS: usize = 4;

/// The share of one model.
#[derive(Default)]
pub(crate) struct Share {
    at_work: AtomicU32,
    answered: Recent<SECONDS>,
    /// Refused by pods.
    refused: Recent<SECONDS>,
}

/// A request that is worked on, until this is dropped.
pub(crate) struct AtWork<'a>(&'a Share);

impl Share {
    /// Takes room for one request to a model with so many pods, if there is any.
    pub(crate) fn take(&self, pods: usize, now: u64) -> Option<AtWork<'_>> {
        let before = self.at_work.fetch_add(1, Ordering::Relaxed) as usize;
        let taken = AtWork(self);
        let pods = pods.max(1);
        // To look back costs more, and is needed only where there is much to do.
        let has_room = before < PER_POD_FULL * pods
            || if self.is_refused(now) {
                (before as f64) < self.a_second(now) as f64 * PATIENCE
            } else {
                before < PER_POD_MIN * pods || before < self.a_second(now)
            };
        has_room.then_some(taken)
    }

    /// A request was answered.
    pub(crate) fn answered(&self, now: u64) {
        self.answered.count(second(now));
    }

    /// A pod has too much to do, and refused a request.
    pub(crate) fn refused(&self, now: u64) {
        self.refused.count(second(now));
    }

    /// Whether a pod refused any in the last seconds.
    fn is_refused(&self, now: u64) -> bool {
        self.refused.numbers(second(now)).any(|refused| refused > 0)
    }

    /// The most answers in one of the last seconds.
    fn a_second(&self, now: u64) -> usize {
        self.answered.numbers(second(now)).max().unwrap_or_default() as usize
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn a_model_that_was_not_asked_has_room_for_a_few_by_pod() {
        let share = Share::default();
        let mut taken: Vec<_> = (0..2 * PER_POD_MIN).map_while(|_| share.take(2, NOW)).collect();
        assert_eq!(taken.len(), 2 * PER_POD_MIN);
        assert!(share.take(2, NOW).is_none() && share.take(0, NOW).is_none());
        taken.pop();
        assert!(share.take(2, NOW).is_some());
        drop(taken);
        assert_eq!(share.at_work.load(Ordering::Relaxed), 0, "who was refused left nothing");
    }

    #[test]
    fn a_model_whose_pods_refuse_has_room_for_what_it_answers() {
        let share = Share::default();
        let room = |second: u64| {
            let taken: Vec<_> = (0..1000).map_while(|_| share.take(2, second * 1000)).collect();
            taken.len()
        };
        share.refused(10_000);
        assert_eq!([10, 13, 14].map(room), [2 * PER_POD_FULL, 2 * PER_POD_FULL, 2 * PER_POD_MIN]);
        (0..40).for_each(|_| share.answered(10_000));
        assert_eq!([10, 13, 14].map(room), [20, 20, 2 * PER_POD_MIN]);
    }

    #[test]
    fn a_model_that_answers_much_has_room_for_a_second() {
        let share = Share::default();
        for second in [10, 10, 10, 11] {
            (0..300).for_each(|_| share.answered(second * 1000));
        }
        let room = |second: u64| share.a_second(second * 1000);
        assert_eq!([10, 11, 13, 14, 15, 1000].map(room), [900, 900, 900, 300, 0, 0]);
        let _taken: Vec<_> = (0..PER_POD_MIN).map_while(|_| share.take(1, NOW)).collect();
        assert!(share.take(1, NOW).is_none());
        (0..500).for_each(|_| share.answered(NOW));
        let more: Vec<_> = (0..1000).map_while(|_| share.take(1, NOW)).collect();
        assert_eq!(more.len() + PER_POD_MIN, 500);
    }
}
