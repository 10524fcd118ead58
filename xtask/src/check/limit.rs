//! A limit of time for a check.
//!
//! A check that exceeds it fails with the programs that it was running, and all of its processes are killed. What they had
//! printed is above that line, or in the check's own error.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};

use crate::shell::{kill_programs, running_programs};

/// How long a check may take to clean up after its programs were killed.
const CLEANUP: Duration = Duration::from_mins(3);

/// How a check ended.
pub(super) enum End {
    /// Within its limit, or it cleaned up after its programs were killed.
    Ended(Result<()>),
    /// It still runs in this process: nothing else can follow.
    Stuck(Error),
}

/// Runs `action` for at most `limit`.
pub(super) fn run(limit: Duration, action: impl FnOnce() -> Result<()> + Send + 'static) -> End {
    run_with(limit, CLEANUP, action)
}

fn run_with(limit: Duration, cleanup: Duration, action: impl FnOnce() -> Result<()> + Send + 'static) -> End {
    let (sender, result) = channel();
    thread::spawn(move || sender.send(action()));
    match result.recv_timeout(limit) {
        Ok(result) => return End::Ended(result),
        Err(RecvTimeoutError::Disconnected) => return End::Ended(Err(anyhow!("it panicked"))),
        Err(RecvTimeoutError::Timeout) => {}
    }
    let programs = running_programs();
    let running = if programs.is_empty() { "none".to_owned() } else { programs.join("\n  ") };
    let killed = kill_programs().context("failed to kill its programs");
    let after = match result.recv_timeout(cleanup) {
        Ok(Ok(())) => "it ended without an error once they were killed".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(RecvTimeoutError::Disconnected) => "it panicked".to_owned(),
        Err(RecvTimeoutError::Timeout) => {
            return End::Stuck(anyhow!(
                "exceeded its limit of {limit:?} and did not end within {cleanup:?} after its programs were killed; \
                 programs that were running:\n  {running}"
            ));
        }
    };
    let report = || {
        if let Err(error) = killed {
            bail!(error);
        }
        bail!(
            "exceeded its limit of {limit:?}; programs that were running, and were killed:\n  {running}\n{after}"
        )
    };
    End::Ended(report())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env_tag::EnvTag;
    use crate::shell::{capture, command};

    /// Alone in a process, since the programs of all checks of a process are killed.
    const ALONE: &str = "CANOPY_TEST_LIMIT";

    #[test]
    fn a_check_that_hangs_fails_with_its_programs_which_are_killed() {
        let name = "check::limit::tests::a_check_that_hangs_fails_with_its_programs_which_are_killed";
        if std::env::var_os(ALONE).is_none() {
            let this = std::env::current_exe().unwrap();
            let mut alone = command(this, ["--exact", name, "--nocapture"]);
            alone.env(ALONE, "yes").env_remove(EnvTag::Check.variable());
            capture(&mut alone).unwrap();
            return;
        }
        let hangs = || {
            // The child of the shell must end with it.
            let words = ["-c", "echo printed before; tail -f /dev/null; true"];
            crate::shell::run_with_input(&mut command("sh", words), "").map(drop)
        };
        let End::Ended(Err(error)) = run_with(Duration::from_secs(1), Duration::from_secs(10), hangs) else {
            panic!("it did not end");
        };
        let error = format!("{error:#}");
        for part in
            ["exceeded its limit of 1s", "tail -f /dev/null", "ended with signal: 9", "printed before"]
        {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        assert_eq!(running_programs(), [""; 0]);
    }

    #[test]
    fn a_check_within_its_limit_keeps_its_result() {
        let End::Ended(result) = run(Duration::from_mins(1), || bail!("of its own")) else {
            panic!("it did not end");
        };
        assert_eq!(result.unwrap_err().to_string(), "of its own");
    }
}
