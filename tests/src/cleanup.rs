//! Cleanup after a test, also if the test fails or panics.

use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;

/// Runs `test`, then `cleanup`. A panic of the test becomes a failure. If both fail, the failure of the test is returned, with that
/// of the cleanup as its context.
pub async fn with_cleanup<T>(
    test: impl Future<Output = Result<T>>,
    cleanup: impl AsyncFnOnce() -> Result<()>,
) -> Result<T> {
    let outcome = AssertUnwindSafe(test).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(anyhow!("the test panicked: {message}"))
    });
    match (outcome, cleanup().await) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(cleanup)) => Err(cleanup).context("the test passed, but its cleanup failed"),
        (Err(test), Err(cleanup)) => Err(test.context(format!("the cleanup failed, too: {cleanup:#}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::Cell;

    use anyhow::bail;

    #[tokio::test]
    async fn cleanup_runs_after_a_panic_and_its_own_failure_does_not_hide_that_of_the_test() {
        let cleaned = Cell::new(0);
        let clean = async || {
            cleaned.set(cleaned.get() + 1);
            bail!("no cluster")
        };
        let panicked = with_cleanup::<()>(async { panic!("index 3 is out of bounds") }, clean).await;
        let text = format!("{:#}", panicked.unwrap_err());
        assert!(text.contains("index 3 is out of bounds") && text.contains("no cluster"), "{text}");

        let failed = with_cleanup::<()>(async { bail!("expected 1, got 2") }, clean).await;
        let text = format!("{:#}", failed.unwrap_err());
        assert!(text.contains("expected 1, got 2") && text.contains("no cluster"), "{text}");

        let only_cleanup = with_cleanup(async { Ok(7) }, clean).await;
        assert!(
            format!("{:#}", only_cleanup.unwrap_err()).contains("the test passed, but its cleanup failed")
        );
        assert_eq!(with_cleanup(async { Ok(7) }, async || Ok(())).await.unwrap(), 7);
        assert_eq!(cleaned.get(), 3);
    }
}
