//! The latency of endpoints: an EWMA per endpoint, to compare endpoints, and an estimate of the 99th percentile per model and
//! request size, from which the hedge delay follows. Lock-free; concurrent updates may lose a sample.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The time constant of the EWMA: a sample loses two thirds of its weight in this time.
const DECAY_SECONDS: f32 = 5.0;
/// Latencies below this, in seconds, are considered equal.
const FAST: f32 = 0.001;
/// An endpoint with several requests in flight is unresponsive after this multiple of its mean latency,
const UNRESPONSIVE_MULTIPLE: f32 = 4.0;
/// and not before this many seconds.
const UNRESPONSIVE_MIN: f32 = 0.3;

/// A request counts as one sample unit per this many rows. Otherwise one large request would make its endpoint look slow for
/// seconds.
const ROWS_PER_UNIT: usize = 8;

/// The exponentially weighted moving average of one endpoint's latency.
#[derive(Default)]
pub(crate) struct Ewma {
    /// The mean in seconds as `f32` in the upper half, the time of the last sample in the lower; 0 without a sample.
    mean: AtomicU64,
}

impl Ewma {
    /// Adds the latency of a response to `rows` rows.
    pub(crate) fn observe(&self, rows: usize, took: Duration, now: u64) {
        let (mean, at) = unpack(self.mean.load(Ordering::Relaxed));
        let took = took.as_secs_f32() / rows.div_ceil(ROWS_PER_UNIT).max(1) as f32;
        // With many responses per second each has little weight; after a pause the next one replaces the mean.
        let keep = if mean == 0.0 { 0.0 } else { decay(at, now).min(KEEP_MAX) };
        let mean = mean * keep + took * (1.0 - keep);
        self.mean.store(u64::from(mean.to_bits()) << 32 | u64::from(now as u32), Ordering::Relaxed);
    }

    /// The mean relative to `FAST`, rounded to a power of two, or `None` without a sample. It decays without samples. Otherwise an
    /// endpoint that was slow once would never be chosen again at low traffic.
    pub(crate) fn rank(&self, now: u64) -> Option<f32> {
        let (mean, at) = unpack(self.mean.load(Ordering::Relaxed));
        (mean > 0.0).then(|| (mean * decay(at, now) / FAST).max(1.0).log2().round().exp2())
    }

    /// How long the endpoint may answer none of several requests before it is unresponsive; `None` without a sample.
    pub(crate) fn unresponsive_after(&self) -> Option<Duration> {
        let (mean, _) = unpack(self.mean.load(Ordering::Relaxed));
        (mean > 0.0).then(|| rounded((mean * UNRESPONSIVE_MULTIPLE).max(UNRESPONSIVE_MIN)))
    }
}

/// The weight of the old mean is at most this, so that a sample has a weight of at least 1 %.
const KEEP_MAX: f32 = 0.99;

/// The remaining weight of a value from `at`.
fn decay(at: u32, now: u64) -> f32 {
    // Another thread may have read a later time and stored it first.
    let age = (now as u32).wrapping_sub(at).cast_signed().max(0);
    (-(age as f32) / 1000.0 / DECAY_SECONDS).exp()
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

/// The hedge delay as a multiple of the estimated 99th percentile.
const HEDGE_MULTIPLE: f32 = 4.0;
/// The shortest hedge delay, in seconds.
const HEDGE_DELAY_MIN: f32 = 0.1;
/// The longest hedge delay by size class, in seconds; also the delay without samples.
const HEDGE_DELAY_MAX: [f32; CLASSES] = [2.0, 2.0, 8.0, 32.0, 128.0, 512.0];
/// The relative step of the estimate. A sample above the estimate raises it by 99 % of this, one below lowers it by 1 %.
const STEP: f32 = 0.05;
/// The number of size classes: up to 7 rows, up to 63, and so on by factors of 8; the last one is unbounded.
const CLASSES: usize = 6;
/// Classes below this are small.
const SMALL_CLASSES: usize = 2;

/// The size class of a request with `rows` rows.
fn class(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize / 3).min(CLASSES - 1)
}

/// Whether predicting `rows` rows twice costs little.
pub(crate) fn is_small(rows: usize) -> bool {
    class(rows) < SMALL_CLASSES
}

/// The hedge delay of one model, by size class.
///
/// The 99th percentile is estimated by stochastic approximation (Robbins and Monro, 1951).
#[derive(Default)]
pub(crate) struct HedgeDelay {
    /// The estimate by class, in seconds as `f32`; 0 without a sample.
    p99: [AtomicU32; CLASSES],
}

impl HedgeDelay {
    /// Adds the latency of a request with `rows` rows, or the time after which a hedge was sent.
    pub(crate) fn observe(&self, rows: usize, took: Duration) {
        let class = class(rows);
        let estimate = &self.p99[class];
        let (p99, took) = (f32::from_bits(estimate.load(Ordering::Relaxed)), took.as_secs_f32());
        let next = match p99 {
            0.0 => HEDGE_MULTIPLE * took,
            _ if took > p99 => p99 * (1.0 + STEP * 0.99),
            _ => p99 * (1.0 - STEP * 0.01),
        };
        let next = next.clamp(HEDGE_DELAY_MIN / HEDGE_MULTIPLE, HEDGE_DELAY_MAX[class] / HEDGE_MULTIPLE);
        // The value rarely changes for a fast model: reading a shared cache line is cheaper than writing it.
        if next.to_bits() != p99.to_bits() {
            estimate.store(next.to_bits(), Ordering::Relaxed);
        }
    }

    /// The hedge delay for `rows` rows.
    pub(crate) fn for_rows(&self, rows: usize) -> Duration {
        let class = class(rows);
        let p99 = f32::from_bits(self.p99[class].load(Ordering::Relaxed));
        let seconds = if p99 == 0.0 { HEDGE_DELAY_MAX[class] } else { p99 * HEDGE_MULTIPLE };
        rounded(seconds)
    }
}

/// Rounds to whole milliseconds.
fn rounded(seconds: f32) -> Duration {
    Duration::from_secs_f64((f64::from(seconds) * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn endpoints_are_ranked_by_their_mean_rounded_to_a_power_of_two() {
        let check = |took: Duration, rank: f32| {
            let ewma = Ewma::default();
            assert_eq!(ewma.rank(1), None);
            ewma.observe(1, took, 1);
            assert_eq!(ewma.rank(1), Some(rank), "{took:?}");
        };
        check(Duration::from_micros(50), 1.0);
        check(ms(1), 1.0);
        check(ms(3), 4.0);
        check(ms(100), 128.0);
    }

    #[test]
    fn a_sample_loses_weight_with_age() {
        let ewma = Ewma::default();
        ewma.observe(1, ms(1000), 0);
        for after in 1..=200 {
            ewma.observe(1, ms(4), after * 10);
        }
        let rank = ewma.rank(2_000).unwrap();
        assert!(
            (16.0..=256.0).contains(&rank),
            "after two seconds the first sample still has weight: {rank}"
        );
        ewma.observe(1, ms(4), 100_000);
        assert_eq!(ewma.rank(100_000), Some(4.0), "after a pause the next sample replaces the mean");
        ewma.observe(1, ms(4), 99_999);
        assert_eq!(ewma.rank(99_998), Some(4.0), "an earlier time of another thread is accepted");
    }

    #[test]
    fn the_rank_of_a_slow_endpoint_decays_without_samples() {
        let ewma = Ewma::default();
        ewma.observe(1, ms(1000), 0);
        for (seconds, rank) in [(0, 1024.0), (5, 512.0), (10, 128.0), (20, 16.0), (40, 1.0)] {
            assert_eq!(ewma.rank(seconds * 1000), Some(rank), "after {seconds} s");
        }
    }

    #[test]
    fn an_endpoint_is_unresponsive_after_four_times_its_mean_latency() {
        let check = |took: Duration, unresponsive_after: Duration| {
            let ewma = Ewma::default();
            assert_eq!(ewma.unresponsive_after(), None);
            ewma.observe(1, took, 1);
            assert_eq!(ewma.unresponsive_after(), Some(unresponsive_after), "{took:?}");
        };
        check(Duration::from_micros(50), ms(300));
        check(ms(75), ms(300));
        check(ms(200), ms(800));
    }

    #[test]
    fn the_hedge_delay_is_four_times_the_99th_percentile_within_limits() {
        let mut chance = fastrand::Rng::with_seed(1);
        let hedge_delay = HedgeDelay::default();
        assert_eq!(hedge_delay.for_rows(1), ms(2000), "without samples");
        // Uniform between 0 and 200 ms: the 99th percentile is 198.
        for _ in 0..50_000 {
            hedge_delay.observe(1, ms(200).mul_f64(chance.f64()));
        }
        let time = hedge_delay.for_rows(1);
        assert!((ms(720)..ms(860)).contains(&time), "{time:?}");
        for _ in 0..10_000 {
            hedge_delay.observe(1, ms(1));
        }
        assert_eq!(hedge_delay.for_rows(1), ms(100), "the minimum");
        for _ in 0..1_000 {
            hedge_delay.observe(1, ms(9000));
        }
        assert_eq!(hedge_delay.for_rows(1), ms(2000), "the maximum");
    }

    #[test]
    fn the_first_sample_sets_the_estimate() {
        let hedge_delay = HedgeDelay::default();
        hedge_delay.observe(1, ms(1));
        assert_eq!(hedge_delay.for_rows(1), ms(100));
        let hedge_delay = HedgeDelay::default();
        hedge_delay.observe(1, ms(50));
        assert_eq!(hedge_delay.for_rows(1), ms(800));
    }

    #[test]
    fn a_large_request_does_not_make_its_endpoint_look_slow() {
        let ewma = Ewma::default();
        ewma.observe(1, ms(1), 1);
        ewma.observe(10_000, ms(1000), 2);
        assert_eq!(ewma.rank(2), Some(1.0));
        ewma.observe(1, ms(1000), 3);
        assert!(ewma.rank(3) > Some(1.0), "a slow response to one row counts fully");
    }

    #[test]
    fn each_size_class_has_its_own_hedge_delay() {
        let hedge_delay = HedgeDelay::default();
        hedge_delay.observe(1, ms(1));
        let time = |rows: usize| hedge_delay.for_rows(rows);
        assert_eq!([1, 7, 8, 63].map(time), [100, 100, 2_000, 2_000].map(ms));
        assert_eq!([64, 512, 4096, 200_000].map(time), [8_000, 32_000, 128_000, 512_000].map(ms));
        hedge_delay.observe(200_000, ms(1000));
        assert_eq!([4096, 200_000].map(time), [128_000, 16_000].map(ms));
        for _ in 0..10_000 {
            hedge_delay.observe(200_000, ms(3_000));
        }
        assert!((ms(11_900)..ms(13_000)).contains(&time(200_000)), "{:?}", time(200_000));
        assert_eq!(hedge_delay.for_rows(1), ms(100));
        assert!(is_small(0) && is_small(63) && !is_small(64));
    }
}
