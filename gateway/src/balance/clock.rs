//! A monotonic clock in milliseconds that fits into an atomic integer. It never returns 0, which stands for "never".

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

const SECOND: u64 = 1000;

/// Milliseconds since one second before the first call.
pub(crate) fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    SECOND + millis(START.elapsed())
}

/// The second that contains `now`, never 0.
pub(crate) fn second(now: u64) -> u64 {
    now / SECOND
}

/// `duration` in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
