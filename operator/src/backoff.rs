//! How long to wait before the next try, for each key by itself: twice as long after each failure, up to a limit.
//!
//! Invariant: keys that fail at the same moment do not all come back at the same moment.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How delays grow.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// How many tries have no delay.
    pub free: u32,
    /// The first delay.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// After how long without another failure a key is forgotten.
    pub forget: Duration,
}

/// The delays of all keys that failed lately.
#[derive(Debug)]
pub struct Backoff {
    growth: Growth,
    keys: Mutex<HashMap<String, Strikes>>,
}

#[derive(Clone, Copy, Debug)]
struct Strikes {
    count: u32,
    last: Instant,
    delay: Duration,
}

impl Backoff {
    /// No key has failed.
    pub fn new(growth: Growth) -> Self {
        Self { growth, keys: Mutex::default() }
    }

    /// One more failure of `key`: how long to wait before the next try.
    pub fn strike(&self, key: &str) -> Duration {
        let now = Instant::now();
        let mut keys = self.keys();
        let before = keys.get(key).filter(|strikes| now.duration_since(strikes.last) < self.growth.forget);
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        let delay = self.delay(key, count);
        keys.insert(key.to_owned(), Strikes { count, last: now, delay });
        delay
    }

    /// How long to wait before the next try of `key`, where that is not now.
    pub fn left(&self, key: &str) -> Option<Duration> {
        let strikes = *self.keys().get(key)?;
        let left = (strikes.last + strikes.delay).saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// How often `key` failed in a row.
    pub fn count(&self, key: &str) -> u32 {
        self.keys().get(key).map_or(0, |strikes| strikes.count)
    }

    /// `key` succeeded.
    pub fn clear(&self, key: &str) {
        self.keys().remove(key);
    }

    /// Of how many keys there is a failure.
    pub fn len(&self) -> usize {
        self.keys().len()
    }

    /// Whether no key failed lately.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the keys that are gone.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.keys().retain(|key, _| is_there(key));
    }

    fn delay(&self, key: &str, count: u32) -> Duration {
        let Growth { free, first, most, forget: _ } = self.growth;
        let Some(doublings) = count.checked_sub(free + 1) else { return Duration::ZERO };
        let whole = first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(most);
        // Up to a quarter less: by the key, so that it needs no source of chance.
        let mut hasher = DefaultHasher::new();
        (key, count).hash(&mut hasher);
        let part = u32::try_from(hasher.finish() % 256).unwrap_or_default();
        whole.saturating_sub(whole / 1024 * part)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Strikes>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(free: u32) -> Backoff {
        Backoff::new(Growth { free, first: SECOND, most: SECOND * 60, forget: SECOND * 600 })
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_delay_up_to_the_limit() {
        let backoff = backoff(0);
        for whole in [1, 2, 4, 8, 16, 32, 60, 60] {
            let delay = backoff.strike("a");
            assert!(delay <= SECOND * whole && delay >= SECOND * whole * 3 / 4, "{delay:?} of {whole} s");
            assert_eq!(backoff.left("a"), Some(delay));
        }
        assert!(backoff.strike("b") <= SECOND, "another key has delays of its own");
        for _ in 0..100 {
            assert!(backoff.strike("a") <= SECOND * 60);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_tries_may_be_free_and_success_or_time_forgets_the_rest() {
        let backoff = backoff(2);
        assert_eq!([backoff.strike("a"), backoff.strike("a")], [Duration::ZERO; 2]);
        assert_eq!(backoff.left("a"), None);
        let delay = backoff.strike("a");
        assert!(!delay.is_zero());
        tokio::time::advance(delay).await;
        assert_eq!(backoff.left("a"), None);
        tokio::time::advance(SECOND * 600).await;
        assert_eq!((backoff.strike("a"), backoff.count("a")), (Duration::ZERO, 1));
        backoff.clear("a");
        assert!(backoff.is_empty());
        backoff.strike("b");
        backoff.keep(|key| key != "b");
        assert_eq!(backoff.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_fail_together_do_not_come_back_together() {
        let backoff = backoff(0);
        let mut delays: Vec<_> = (0..20).map(|key| backoff.strike(&key.to_string())).collect();
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 10, "{delays:?}");
    }
}
