//! The limit of concurrent requests per model: about as many as the model answers within a second. Requests beyond it are refused
//! by the gateway, so that an overloaded predictor spends no CPU on refusals.
//!
//! By Little's law, concurrency divided by throughput is the latency: a limit proportional to throughput bounds the latency. Each
//! model has its own limit, so that one model cannot take the room of another.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::balance::clock::second;
use crate::balance::window::SlidingWindow;

/// The minimum limit per endpoint while no endpoint sheds load. A model that had no traffic has no throughput yet.
const PER_ENDPOINT_MIN: usize = 128;
/// The minimum limit per endpoint while endpoints shed load.
const PER_ENDPOINT_SHEDDING: usize = 4;
/// The latency that the limit aims at while endpoints shed load, in seconds: half the time that a predictor queues a request, so
/// that a request is not queued by one endpoint, refused, and queued again by another.
const TARGET_SECONDS: f64 = 0.5;
/// The length of the window in seconds, the current one included.
const SECONDS: usize = 4;

/// The concurrency limit of one model.
#[derive(Default)]
pub(crate) struct ConcurrencyLimit {
    in_progress: AtomicU32,
    answered: SlidingWindow<SECONDS>,
    /// Requests that endpoints refused because of overload.
    overloaded: SlidingWindow<SECONDS>,
}

/// A slot for one request; dropping it frees the slot.
pub(crate) struct Permit<'a>(&'a ConcurrencyLimit);

impl ConcurrencyLimit {
    /// Takes a slot for a request to a model with this many endpoints, if one is free.
    pub(crate) fn try_acquire(&self, endpoints: usize, now: u64) -> Option<Permit<'_>> {
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed) as usize;
        let permit = Permit(self);
        let endpoints = endpoints.max(1);
        // The window is read only when there are many requests.
        let has_room = before < PER_ENDPOINT_SHEDDING * endpoints
            || if self.is_shedding(now) {
                (before as f64) < self.responses_per_second(now) as f64 * TARGET_SECONDS
            } else {
                before < PER_ENDPOINT_MIN * endpoints || before < self.responses_per_second(now)
            };
        has_room.then_some(permit)
    }

    /// Records a response.
    pub(crate) fn record_response(&self, now: u64) {
        self.answered.increment(second(now));
    }

    /// Records that an endpoint refused a request because of overload.
    pub(crate) fn record_overload(&self, now: u64) {
        self.overloaded.increment(second(now));
    }

    /// Whether an endpoint refused a request within the window.
    fn is_shedding(&self, now: u64) -> bool {
        self.overloaded.counts(second(now)).any(|overloaded| overloaded > 0)
    }

    /// The highest throughput of the window, in responses per second.
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
    fn a_model_without_traffic_has_the_minimum_limit_per_endpoint() {
        let limit = ConcurrencyLimit::default();
        let mut permit: Vec<_> = (0..2 * PER_ENDPOINT_MIN).map_while(|_| limit.try_acquire(2, NOW)).collect();
        assert_eq!(permit.len(), 2 * PER_ENDPOINT_MIN);
        assert!(limit.try_acquire(2, NOW).is_none() && limit.try_acquire(0, NOW).is_none());
        permit.pop();
        assert!(limit.try_acquire(2, NOW).is_some());
        drop(permit);
        assert_eq!(limit.in_progress.load(Ordering::Relaxed), 0, "a refused request takes no slot");
    }

    #[test]
    fn the_limit_follows_the_throughput_while_endpoints_shed_load() {
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
    fn the_limit_is_the_throughput_of_one_second_at_most() {
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
