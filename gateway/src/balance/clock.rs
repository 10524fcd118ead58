//! The time as routing counts it.
//!
//! Comes in: nothing. Goes out: milliseconds since some moment before the process did anything. Never: the time of day,
//! which people change, nor 0, which stands for never.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

const SECOND: u64 = 1000;

/// Milliseconds since some moment, of which one second had passed when this was first asked.
pub(crate) fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    SECOND + millis(START.elapsed())
}

/// The second of a moment, never 0.
pub(crate) fn second(now: u64) -> u64 {
    now / SECOND
}

/// A time in the unit of this clock.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
