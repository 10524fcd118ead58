//! How long a process takes from its start to its first right answer.
//!
//! Comes in: how to start it and what to ask. Goes out: the time. Never: a head start; the asking begins before the
//! process does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::call::Call;
use crate::client::Connection;
use crate::server::Server;
use crate::ticker::Ticker;

/// How long a refused attempt is from the next.
const PERIOD: Duration = Duration::from_micros(100);
/// How often the process is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks again and again, starts the server meanwhile, and says how long after that the first right answer came.
pub(crate) async fn first_answer(
    call: &Call,
    start: impl FnOnce() -> Result<Server>,
) -> Result<(Server, Duration)> {
    let (refused, was_refused) = oneshot::channel();
    let mut asking = spawn_local(ask_until_answered(call.clone(), refused));
    was_refused.await.context("something answers already")?;
    let begun = Instant::now();
    let mut server = start()?;
    loop {
        match timeout(GLANCE, &mut asking).await {
            Ok(answered) => return Ok((server, answered??.saturating_duration_since(begun))),
            Err(_) if begun.elapsed() < PATIENCE => server.must_run()?,
            Err(_) => bail!("{} gave no right answer within {PATIENCE:?}", server.name()),
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
        // Who waits for this may have given up.
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
    async fn a_process_that_ends_without_an_answer_is_told_at_once() {
        let call = Call::get(free_address().unwrap(), "/", "");
        let start = || Server::start("false", &mut Command::new("false"));
        let ended = LocalSet::new().run_until(first_answer(&call, start)).await.err().unwrap();
        assert_eq!(ended.to_string(), "false ended with exit status: 1; run it by hand to see why");
    }
}
