//! Exponential backoff per key: the delay doubles with each failure, up to a limit.
//!
//! Invariant: keys that fail at the same time are not retried at the same time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How delays grow with consecutive failures.
#[derive(Clone, Copy, Debug)]
pub struct BackoffPolicy {
    /// Number of failures without a delay.
    pub free_attempts: u32,
    /// First delay.
    pub initial_delay: Duration,
    /// Longest delay.
    pub max_delay: Duration,
    /// Time without a failure after which the count restarts.
    pub reset_after: Duration,
}

/// Delays of all keys with recent failures.
#[derive(Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    keys: Mutex<HashMap<String, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
    delay: Duration,
}

impl Backoff {
    /// Starts without failures.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, keys: Mutex::default() }
    }

    /// Counts a failure of `key` and returns the delay before the next attempt.
    pub fn record_failure(&self, key: &str) -> Duration {
        let now = Instant::now();
        let mut keys = self.keys();
        let before =
            keys.get(key).filter(|failures| now.duration_since(failures.last) < self.policy.reset_after);
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        let delay = self.delay(key, count);
        keys.insert(key.to_owned(), Failures { count, last: now, delay });
        delay
    }

    /// The remaining delay of `key`, if any.
    pub fn remaining(&self, key: &str) -> Option<Duration> {
        let failures = *self.keys().get(key)?;
        let remaining = (failures.last + failures.delay).saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(remaining)
    }

    /// Consecutive failures of `key`.
    pub fn count(&self, key: &str) -> u32 {
        self.keys().get(key).map_or(0, |failures| failures.count)
    }

    /// Forgets the failures of `key` after a success.
    pub fn reset(&self, key: &str) {
        self.keys().remove(key);
    }

    /// Number of keys with failures.
    pub fn len(&self) -> usize {
        self.keys().len()
    }

    /// Whether no key has failures.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all keys that do not satisfy `is_there`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.keys().retain(|key, _| is_there(key));
    }

    fn delay(&self, key: &str, count: u32) -> Duration {
        let BackoffPolicy { free_attempts, initial_delay, max_delay, reset_after: _ } = self.policy;
        let Some(doublings) = count.checked_sub(free_attempts + 1) else { return Duration::ZERO };
        let full =
            initial_delay.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(max_delay);
        // Jitter of up to a quarter, from a hash of the key, so that no random source is needed.
        let mut hasher = DefaultHasher::new();
        (key, count).hash(&mut hasher);
        let part = u32::try_from(hasher.finish() % 256).unwrap_or_default();
        full.saturating_sub(full / 1024 * part)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Failures>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(free_attempts: u32) -> Backoff {
        Backoff::new(BackoffPolicy {
            free_attempts,
            initial_delay: SECOND,
            max_delay: SECOND * 60,
            reset_after: SECOND * 600,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_delay_up_to_the_limit() {
        let backoff = backoff(0);
        for full in [1, 2, 4, 8, 16, 32, 60, 60] {
            let delay = backoff.record_failure("a");
            assert!(delay <= SECOND * full && delay >= SECOND * full * 3 / 4, "{delay:?} of {full} s");
            assert_eq!(backoff.remaining("a"), Some(delay));
        }
        assert!(backoff.record_failure("b") <= SECOND, "another key has delays of its own");
        for _ in 0..100 {
            assert!(backoff.record_failure("a") <= SECOND * 60);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failures_may_have_no_delay_and_success_or_time_resets_the_count() {
        let backoff = backoff(2);
        assert_eq!([backoff.record_failure("a"), backoff.record_failure("a")], [Duration::ZERO; 2]);
        assert_eq!(backoff.remaining("a"), None);
        let delay = backoff.record_failure("a");
        assert!(!delay.is_zero());
        tokio::time::advance(delay).await;
        assert_eq!(backoff.remaining("a"), None);
        tokio::time::advance(SECOND * 600).await;
        assert_eq!((backoff.record_failure("a"), backoff.count("a")), (Duration::ZERO, 1));
        backoff.reset("a");
        assert!(backoff.is_empty());
        backoff.record_failure("b");
        backoff.retain(|key| key != "b");
        assert_eq!(backoff.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_fail_together_have_different_delays() {
        let backoff = backoff(0);
        let mut delays: Vec<_> = (0..20).map(|key| backoff.record_failure(&key.to_string())).collect();
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 10, "{delays:?}");
    }
}
