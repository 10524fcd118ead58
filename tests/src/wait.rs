//! Waiting for a condition, with a deadline. The only file of the tests that lets time pass.
//!
//! Comes in: an attempt that fails until the condition holds. Goes out: what it gave, or the last error.
//! Never: a wait that a condition does not end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

/// How long a process may take for anything it does by itself.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a condition is left alone between two looks,
const PAUSE: Duration = Duration::from_millis(20);
/// and so many times as long as a look takes, where that is more: looks must not be what a machine is busy with.
const REST: u32 = 2;

/// Tries until it works; after `limit` the last error is told, with `what` was waited for.
pub async fn until<T>(what: &str, limit: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let began = Instant::now();
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("waited {limit:?} for {what}"));
            }
            Err(_) => sleep(PAUSE.max(began.elapsed() * REST)).await,
        }
    }
}

/// Lets time pass where that nothing happens meanwhile is what a test shows.
pub async fn pass(time: Duration) {
    sleep(time).await;
}
