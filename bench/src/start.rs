//! Measures the time from the start of a process to its first correct response. Requests begin before the process.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::call::Call;
use crate::client::Connection;
use crate::server::Server;
use crate::ticker::Ticker;

/// The pause after a refused connection.
const PERIOD: Duration = Duration::from_micros(100);
/// Interval of checks whether the process still runs.
const GLANCE: Duration = Duration::from_millis(50);
/// The longest time until a correct response.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sends requests repeatedly, starts the server, and returns the time from its start to the first correct response.
pub(crate) async fn first_answer(
    call: &Call,
    start: impl FnOnce() -> Result<Server>,
) -> Result<(Server, Duration)> {
    let (refused, was_refused) = oneshot::channel();
    let mut asking = spawn_local(ask_until_answered(call.clone(), refused));
    was_refused.await.context("another server responds at the address")?;
    let begun = Instant::now();
    let mut server = start()?;
    loop {
        match timeout(GLANCE, &mut asking).await {
            Ok(answered) => return Ok((server, answered??.saturating_duration_since(begun))),
            Err(_) if begun.elapsed() < PATIENCE => server.must_run()?,
            Err(_) => bail!("{} returned no correct response within {PATIENCE:?}", server.name()),
        }
    }
}

async fn ask_until_answered(call: Call, refused: oneshot::Sender<()>) -> Result<Instant> {
    let ticker = Ticker::start(PERIOD)?;
    let mut refused = Some(refused);
    loop {
        if let Ok(mut connection) = Connection::open(call.address).await
            && connection.ask(&call, &call.questions[0]).await.is_ok()
        {
            return Ok(Instant::now());
        }
        // The receiver is gone if the server could not be started.
        refused.take().map(|refused| refused.send(()));
        ticker.passed().await?;
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tokio::task::LocalSet;

    use super::*;
    use crate::server::free_address;

    #[tokio::test]
    async fn a_process_that_ends_without_a_response_is_an_error_at_once() {
        let call = Call::get(free_address().unwrap(), "/", "");
        let start = || Server::start("false", &mut Command::new("false"));
        let ended = LocalSet::new().run_until(first_answer(&call, start)).await.err().unwrap();
        assert_eq!(ended.to_string(), "false ended with exit status: 1; run it by hand to see why");
    }
}
