//! Waiting for a condition, with a deadline. Only this file of the tests sleeps.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

/// The time limit for steps that a process does by itself.
pub const SOON: Duration = Duration::from_secs(20);
/// The pause after the first attempt. It doubles with each attempt.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause, unless an attempt itself takes long.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// Repeats `attempt` until it succeeds. After `limit` the last error is returned, with `what` as its context.
pub async fn until<T>(what: &str, limit: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("waited {limit:?} for {what}"));
            }
            // The pause is at least as long as the attempt, which may have started a process.
            Err(_) => sleep(pause.max(began.elapsed())).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Sleeps, where a test shows that nothing happens in that time.
pub async fn pass(time: Duration) {
    sleep(time).await;
}
