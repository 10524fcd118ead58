//! A sliding window of counts per second. Lock-free and of constant size.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of the last `SECONDS` seconds, the current one included.
pub(crate) struct SlidingWindow<const SECONDS: usize> {
    /// The second in the upper half (0 if unused), its count in the lower.
    slots: [AtomicU64; SECONDS],
}

impl<const SECONDS: usize> Default for SlidingWindow<SECONDS> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const SECONDS: usize> SlidingWindow<SECONDS> {
    /// Counts one event in `second`, which must not be 0.
    pub(crate) fn increment(&self, second: u64) {
        self.add(second, 1);
    }

    /// Counts `count` events in `second`, which must not be 0.
    pub(crate) fn add(&self, second: u64, count: u32) {
        let count = u64::from(count);
        let slot = &self.slots[second as usize % SECONDS];
        let add =
            |packed: u64| Some(if packed >> 32 == second { packed + count } else { second << 32 | count });
        // Cannot fail: the closure always returns a value.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The counts of the seconds in the window that have any.
    pub(crate) fn counts(&self, now: u64) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(move |slot| {
            let packed = slot.load(Ordering::Relaxed);
            let (second, number) = (packed >> 32, packed & u64::from(u32::MAX));
            // Another thread may have counted with a later clock.
            let is_recent = second != 0 && now.saturating_sub(second) < SECONDS as u64;
            is_recent.then_some(number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_is_counted_until_it_leaves_the_window() {
        let window = SlidingWindow::<4>::default();
        assert_eq!(window.counts(1).count(), 0, "an unused slot is not in the window");
        for (second, count) in [(10, 3), (11, 1)] {
            (0..count).for_each(|_| window.increment(second));
        }
        let sum = |now: u64| window.counts(now).sum::<u64>();
        assert_eq!([9, 10, 11, 13, 14, 15, 1000].map(sum), [4, 4, 4, 4, 1, 0, 0]);
        window.increment(14);
        assert_eq!(sum(14), 2, "a reused slot starts from 0");
        window.add(14, 5);
        assert_eq!(sum(14), 7);
    }
}
