//! How many requests for one model are worked on at once: as many as it answers within a second.
//!
//! Comes in: that a request begins, and that one was answered. Goes out: whether there is room. Never: room that
//! another model needs; each has a share of its own, and who finds no room is told at once.
//!
//! Where answers come at a steady rate, requests that are worked on take their number divided by the rate (Little's
//! law): to bound their number by the rate is to bound how long they take.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::time::Instant;

/// So many are worked on at once for each pod, however few were answered lately: the model may just not be asked.
const PER_POD_MIN: usize = 128;
/// How many seconds are looked back at, the present one included.
const SECONDS: usize = 4;

/// The share of one model.
#[derive(Default)]
pub(crate) struct Share {
    at_work: AtomicU32,
    /// The second in the upper half, the answers in it in the lower.
    answered: [AtomicU64; SECONDS],
}

/// A request that is worked on, until this is dropped.
pub(crate) struct AtWork<'a>(&'a Share);

impl Share {
    /// Takes room for one request to a model with so many pods, if there is any.
    pub(crate) fn take(&self, pods: usize) -> Option<AtWork<'_>> {
        let before = self.at_work.fetch_add(1, Ordering::Relaxed) as usize;
        let taken = AtWork(self);
        // The look back costs more, and is needed only where there is much to do.
        let has_room = before < PER_POD_MIN * pods.max(1) || before < self.a_second(second());
        has_room.then_some(taken)
    }

    /// A request was answered.
    pub(crate) fn answered(&self) {
        self.answered_at(second());
    }

    fn answered_at(&self, second: u64) {
        let slot = &self.answered[second as usize % SECONDS];
        let add = |packed: u64| Some(if packed >> 32 == second { packed + 1 } else { second << 32 | 1 });
        // It cannot fail: there always is a next value.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The most answers in one of the last seconds.
    fn a_second(&self, now: u64) -> usize {
        let recent = |slot: &AtomicU64| {
            let packed = slot.load(Ordering::Relaxed);
            let is_recent = now.checked_sub(packed >> 32).is_some_and(|age| age < SECONDS as u64);
            is_recent.then_some((packed & u64::from(u32::MAX)) as usize)
        };
        self.answered.iter().filter_map(recent).max().unwrap_or_default()
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Seconds since some moment, from 4: an empty slot, which is of second 0, must not pass for a recent one.
fn second() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs() + SECONDS as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_was_not_asked_has_room_for_a_few_by_pod() {
        let share = Share::default();
        let mut taken: Vec<_> = (0..2 * PER_POD_MIN).map_while(|_| share.take(2)).collect();
        assert_eq!(taken.len(), 2 * PER_POD_MIN);
        assert!(share.take(2).is_none() && share.take(0).is_none());
        taken.pop();
        assert!(share.take(2).is_some());
        drop(taken);
        assert_eq!(share.at_work.load(Ordering::Relaxed), 0, "who was refused left nothing");
    }

    #[test]
    fn a_model_that_answers_much_has_room_for_a_second() {
        let share = Share::default();
        for second in [10, 10, 10, 11] {
            for _ in 0..300 {
                share.answered_at(second);
            }
        }
        assert_eq!([10, 11, 13, 14, 15, 1000].map(|now| share.a_second(now)), [900, 900, 900, 300, 0, 0]);
        let _taken: Vec<_> = (0..PER_POD_MIN).map_while(|_| share.take(1)).collect();
        assert!(share.take(1).is_none());
        for _ in 0..500 {
            share.answered();
        }
        let more: Vec<_> = (0..1000).map_while(|_| share.take(1)).collect();
        assert!((372..=500).contains(&(more.len() + PER_POD_MIN)), "{}", more.len());
    }
}
