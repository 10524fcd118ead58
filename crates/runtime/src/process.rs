//! Set-up and end of a process: TLS provider, logs, traces, threads, exit code.
//!
//! Waiting spans are exported before the process exits.

use std::io;
use std::process::ExitCode;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

use crate::server::workers::{Threads, Workers};
use crate::telemetry::Telemetry;

/// The maximum default number of workers. More of them do not serve small models faster.
const WORKERS_MAX: usize = 4;

/// Runs `work`, which serves requests by `workers` threads (by default one per CPU, at most 4), and returns how it
/// ended. The calling thread accepts connections and does background work.
pub fn serve<W, E>(service: &'static str, workers: Option<usize>, work: impl FnOnce(Workers) -> W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, E>>,
    E: std::fmt::Display,
{
    frame(service, || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (threads, workers) = Threads::start(count(workers))?;
        let ended = in_runtime(runtime, work(workers));
        drop(threads);
        Ok(ended)
    })
}

/// Runs `work`, which shares `workers` threads (by default one per CPU, at most 4), and returns how it ended.
pub fn run<W, E>(service: &'static str, workers: Option<usize>, work: W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, E>>,
    E: std::fmt::Display,
{
    frame(service, || {
        let runtime = Builder::new_multi_thread().worker_threads(count(workers)).enable_all().build()?;
        Ok(in_runtime(runtime, work))
    })
}

fn count(workers: Option<usize>) -> usize {
    workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)).max(1)
}

fn in_runtime<F: Future>(runtime: Runtime, work: F) -> F::Output {
    let ended = runtime.block_on(work);
    // Blocking work whose client has disconnected must not delay the end.
    runtime.shutdown_background();
    ended
}

/// Set-up before the runtime and clean-up after it. Errors are log lines, so that log collectors get them.
fn frame<E: std::fmt::Display>(
    service: &'static str,
    work: impl FnOnce() -> io::Result<Result<ExitCode, E>>,
) -> ExitCode {
    install_cryptography();
    let telemetry = match Telemetry::start(service) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(&error),
    };
    let ended = match work() {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(%error, "failed to start the threads of the process");
            ExitCode::FAILURE
        }
    };
    telemetry.stop();
    ended
}

/// Installs ring as the cryptography of all TLS clients in this process. A second call has no effect.
pub fn install_cryptography() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[expect(clippy::print_stderr, reason = "there are no logs yet")]
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
