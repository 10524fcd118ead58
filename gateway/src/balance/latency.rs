//! How fast pods answer: each pod lately, to compare them, and the slowest answers of a model, to know when silence is
//! more than slowness.
//!
//! Comes in: how long answers took, and to how many rows. Goes out: of a pod a rank, and how long it may be quiet; a time
//! of patience for a number of rows to a model. Never: a lock; where two answers come at once, one of them may go uncounted.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// After so long an answer counts for about a third of what it did.
const DECAY_SECONDS: f32 = 5.0;
/// Balancer that answer faster than this are as fast as each other.
const FAST: f32 = 0.001;
/// For how many times as long as it takes for an answer a pod may answer nobody while several wait,
const UNRESPONSIVE_MULTIPLE: f32 = 4.0;
/// but for so many seconds in any case.
const UNRESPONSIVE_MIN: f32 = 0.3;

/// A request of more rows counts as several of this many: else one large request would make its pod look slow, and
/// small ones would go elsewhere for seconds.
const ROWS_PER_UNIT: usize = 8;

/// How long one pod takes for an answer to a few rows: a mean in which older answers count less and less.
#[derive(Default)]
pub(crate) struct Ewma {
    /// The mean in seconds as an `f32`, above the milliseconds of the last answer; 0 while there was none.
    mean: AtomicU64,
}

impl Ewma {
    /// An answer to `rows` rows took `took`.
    pub(crate) fn observe(&self, rows: usize, took: Duration, now: u64) {
        let (mean, at) = unpack(self.mean.load(Ordering::Relaxed));
        let took = took.as_secs_f32() / rows.div_ceil(ROWS_PER_UNIT).max(1) as f32;
        // Of many answers a second each counts a little; after a pause the next one counts for all.
        let keep = if mean == 0.0 { 0.0 } else { decay(at, now).min(KEEP_MAX) };
        let mean = mean * keep + took * (1.0 - keep);
        self.mean.store(u64::from(mean.to_bits()) << 32 | u64::from(now as u32), Ordering::Relaxed);
    }

    /// By how much its answers take longer than fast ones, in powers of 2; less than twice as long is as long. Nothing
    /// while there was no answer. Without answers it comes down again: else a pod that was slow once would never be asked
    /// again where few requests come, since it would always be the worse one of two.
    pub(crate) fn rank(&self, now: u64) -> Option<f32> {
        let (mean, at) = unpack(self.mean.load(Ordering::Relaxed));
        (mean > 0.0).then(|| (mean * decay(at, now) / FAST).max(1.0).log2().round().exp2())
    }

    /// How long it may answer nobody while several wait. Nothing while there was no answer.
    pub(crate) fn unresponsive_after(&self) -> Option<Duration> {
        let (mean, _) = unpack(self.mean.load(Ordering::Relaxed));
        (mean > 0.0).then(|| rounded((mean * UNRESPONSIVE_MULTIPLE).max(UNRESPONSIVE_MIN)))
    }
}

/// However many come at once, an answer counts for a hundredth at least.
const KEEP_MAX: f32 = 0.99;

/// How much of what was known at one moment still counts at another one.
fn decay(at: u32, now: u64) -> f32 {
    // Another thread may have read the clock later and written first.
    let age = (now as u32).wrapping_sub(at).cast_signed().max(0);
    (-(age as f32) / 1000.0 / DECAY_SECONDS).exp()
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

/// A hedge is sent after this multiple of the time that 99 of 100 answers stay below.
const HEDGE_MULTIPLE: f32 = 4.0;
/// The least patience, in seconds.
const HEDGE_DELAY_MIN: f32 = 0.1;
/// The most patience with each class of requests, in seconds; also the patience before anything is known.
const HEDGE_DELAY_MAX: [f32; CLASSES] = [2.0, 2.0, 8.0, 32.0, 128.0, 512.0];
/// By which part of itself the estimate of that time grows with an answer that took longer: of a hundred answers
/// one does, and 99 together take back as much.
const STEP: f32 = 0.05;
/// How many classes of requests there are: up to 7 rows, up to 63, and so on by factors of 8; the last has all larger ones.
const CLASSES: usize = 6;
/// Requests of the classes below this one have few rows.
const SMALL_CLASSES: usize = 2;

/// The class of requests with `rows` rows.
fn class(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize / 3).min(CLASSES - 1)
}

/// Whether a request has so few rows that to have them predicted twice costs little.
pub(crate) fn is_small(rows: usize) -> bool {
    class(rows) < SMALL_CLASSES
}

/// How long a model's pods are waited for before another one is asked as well, by the number of rows.
///
/// The time that 99 of 100 answers stay below is approached in steps (Robbins and Monro, 1951): up by 99 parts after
/// an answer that took longer, down by 1 part after one that did not.
#[derive(Default)]
pub(crate) struct HedgeDelay {
    /// By class, in seconds, as an `f32`; 0 while there was no answer.
    p99: [AtomicU32; CLASSES],
}

impl HedgeDelay {
    /// An answer to `rows` rows took `took`, or was not waited for any longer.
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
        // Of a fast model it stays at its least: to look costs less than to write where others look.
        if next.to_bits() != p99.to_bits() {
            estimate.store(next.to_bits(), Ordering::Relaxed);
        }
    }

    /// How long a pod may be silent about `rows` rows.
    pub(crate) fn for_rows(&self, rows: usize) -> Duration {
        let class = class(rows);
        let p99 = f32::from_bits(self.p99[class].load(Ordering::Relaxed));
        let seconds = if p99 == 0.0 { HEDGE_DELAY_MAX[class] } else { p99 * HEDGE_MULTIPLE };
        rounded(seconds)
    }
}

/// To whole milliseconds.
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
    fn pods_are_ranked_by_powers_of_two_of_their_mean() {
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
    fn an_answer_counts_less_the_older_it_is() {
        let ewma = Ewma::default();
        ewma.observe(1, ms(1000), 0);
        for after in 1..=200 {
            ewma.observe(1, ms(4), after * 10);
        }
        let rank = ewma.rank(2_000).unwrap();
        assert!((16.0..=256.0).contains(&rank), "after two seconds some of it is left: {rank}");
        ewma.observe(1, ms(4), 100_000);
        assert_eq!(ewma.rank(100_000), Some(4.0), "after a pause nothing is");
        ewma.observe(1, ms(4), 99_999);
        assert_eq!(ewma.rank(99_998), Some(4.0), "a clock that another thread has read before is no harm");
    }

    #[test]
    fn a_pod_that_was_slow_is_taken_for_a_fast_one_after_a_while_without_answers() {
        let ewma = Ewma::default();
        ewma.observe(1, ms(1000), 0);
        for (seconds, rank) in [(0, 1024.0), (5, 512.0), (10, 128.0), (20, 16.0), (40, 1.0)] {
            assert_eq!(ewma.rank(seconds * 1000), Some(rank), "after {seconds} s");
        }
    }

    #[test]
    fn a_pod_may_be_quiet_for_four_of_its_answers() {
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
    fn patience_is_four_times_what_all_but_a_hundredth_of_answers_take() {
        let mut chance = fastrand::Rng::with_seed(1);
        let hedge_delay = HedgeDelay::default();
        assert_eq!(hedge_delay.for_rows(1), ms(2000), "nothing is known");
        // Even between 0 and 200 ms: one of a hundred takes longer than 198.
        for _ in 0..50_000 {
            hedge_delay.observe(1, ms(200).mul_f64(chance.f64()));
        }
        let time = hedge_delay.for_rows(1);
        assert!((ms(720)..ms(860)).contains(&time), "{time:?}");
        for _ in 0..10_000 {
            hedge_delay.observe(1, ms(1));
        }
        assert_eq!(hedge_delay.for_rows(1), ms(100), "this at least");
        for _ in 0..1_000 {
            hedge_delay.observe(1, ms(9000));
        }
        assert_eq!(hedge_delay.for_rows(1), ms(2000), "and this at most");
    }

    #[test]
    fn the_first_answer_says_most() {
        let hedge_delay = HedgeDelay::default();
        hedge_delay.observe(1, ms(1));
        assert_eq!(hedge_delay.for_rows(1), ms(100));
        let hedge_delay = HedgeDelay::default();
        hedge_delay.observe(1, ms(50));
        assert_eq!(hedge_delay.for_rows(1), ms(800));
    }

    #[test]
    fn a_large_request_does_not_make_its_pod_look_slow() {
        let ewma = Ewma::default();
        ewma.observe(1, ms(1), 1);
        ewma.observe(10_000, ms(1000), 2);
        assert_eq!(ewma.rank(2), Some(1.0));
        ewma.observe(1, ms(1000), 3);
        assert!(ewma.rank(3) > Some(1.0), "a slow answer to one row does");
    }

    #[test]
    fn each_class_of_rows_has_a_patience_of_its_own() {
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
