//! The frame of a process: cryptography, logs, workers, and an end in order.
//!
//! Comes in: the process's name and its work. Goes out: its exit code. Never: a runtime that is dropped while
//! spans still wait.

use std::process::ExitCode;
use std::thread::available_parallelism;

use crate::telemetry::Telemetry;

/// More workers than this serve small models no faster.
const WORKERS_MAX: usize = 4;

/// Runs `work` in a runtime with `workers` threads (by default one per CPU, at most 4) and returns how it ended.
/// What went wrong is told as a log line, since somebody else may be reading them.
pub fn run<W, E>(service: &'static str, workers: Option<usize>, work: W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, E>>,
    E: std::fmt::Display,
{
    install_cryptography();
    let telemetry = match Telemetry::start(service) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(&error),
    };
    let workers = workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from).min(WORKERS_MAX));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers.max(1)).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(work);
            // Blocking work that a client no longer waits for must not hold up the end.
            runtime.shutdown_background();
            match ended {
                Ok(code) => code,
                Err(error) => {
                    tracing::error!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => fail(&format!("failed to start the runtime: {error}")),
    };
    telemetry.stop();
    ended
}

/// Makes ring the cryptography of every TLS client in this process. Twice is as good as once.
pub fn install_cryptography() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[expect(clippy::print_stderr, reason = "there are no logs yet")]
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
