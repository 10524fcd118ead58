//! Serves a gateway on a socket until shutdown. The process is not ready before the database is open.

use std::time::Duration;

use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::connections::Connections;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::server::{ServeOptions, Timing, serve};
use canopy_runtime::shutdown::Shutdown;
use tokio::net::TcpListener;

use crate::app::{App, OpenError};
use crate::http::request_context;
use crate::routes;
use crate::settings::Settings;

/// The time of a request apart from its body and the predictor.
const MARGIN: Duration = Duration::from_secs(1);

/// The time for writing the last predictions to the database.
const FLUSH: Duration = Duration::from_secs(3);

/// The process of the gateway, which `canopy up` shares with other parts.
#[derive(Clone, Debug)]
pub struct Process {
    /// The worker threads.
    pub workers: Workers,
    /// The registry of metrics.
    pub registry: Registry,
    /// The readiness of the process.
    pub readiness: Readiness,
    /// The shutdown signal.
    pub shutdown: Shutdown,
}

/// The time for requests that are accepted just before the drain ends.
fn grace(settings: &Settings) -> Duration {
    settings.body_timeout + settings.upstream_timeout + MARGIN
}

/// Serves the gateway of `settings` until shutdown, and returns when all requests are answered.
pub async fn run(settings: &Settings, listener: TcpListener, process: Process) -> Result<(), OpenError> {
    let Process { workers, registry, readiness, shutdown } = process;
    let gate = readiness.gate("gateway", "opening the database");
    let app = App::open(settings, &registry).await?;
    gate.open();
    let options = ServeOptions {
        workers,
        connections: Connections::new(settings.connections(), &registry),
        timing: Timing::default(),
        drain: Duration::from_secs(settings.drain_seconds),
        grace: grace(settings),
        on_panic: request_context::panicked,
        hosts: settings.hosts.clone(),
        on_wrong_host: request_context::misdirected,
        tells_peer: false,
    };
    serve(listener, routes::router(app.clone()), options, shutdown).await;
    app.close(FLUSH).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use canopy_runtime::telemetry::{FLUSH_TIMEOUT, LINES_TIMEOUT};
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    /// The rendered Deployment of the gateway.
    fn deployment() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.yaml");
        let manifests = std::fs::read_to_string(path).unwrap();
        let mut manifests = manifests.split("\n---\n");
        let is_it = |one: &&str| one.contains("kind: Deployment\n") && one.contains("name: canopy-gateway\n");
        manifests.find(is_it).unwrap().to_owned()
    }

    #[test]
    fn the_termination_grace_period_covers_the_slowest_shutdown() {
        let deployment = deployment();
        let after = |text: &str| {
            let (_, rest) =
                deployment.split_once(text).unwrap_or_else(|| panic!("no {text} in {deployment}"));
            rest.trim_start().lines().next().unwrap().trim_matches('"').to_owned()
        };
        let variable = |name: &str| after(&format!("- name: {name}\n          value:"));
        let flags = [
            "gateway".to_owned(),
            format!("--drain-seconds={}", variable("CANOPY_DRAIN_SECONDS")),
            format!("--body-timeout={}", variable("CANOPY_BODY_TIMEOUT")),
            format!("--upstream-timeout={}", variable("CANOPY_UPSTREAM_TIMEOUT")),
        ];
        let matches = Settings::augment_args(Command::new("gateway")).try_get_matches_from(flags).unwrap();
        let settings = Settings::from_arg_matches(&matches).unwrap();
        let slowest = Duration::from_secs(settings.drain_seconds)
            + grace(&settings)
            + FLUSH
            + FLUSH_TIMEOUT
            + LINES_TIMEOUT;
        let waits = Duration::from_secs(after("terminationGracePeriodSeconds:").parse().unwrap());
        assert!(waits > slowest, "shutdown takes up to {slowest:?}, but the pod is killed after {waits:?}");
    }
}
