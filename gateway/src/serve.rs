//! A gateway on a socket, from the first request to the last.
//!
//! Comes in: settings, a bound socket, and the process it lives in. Goes out: nothing, when all is answered
//! after the order to stop. Never: a word of readiness before the database is there.

use std::time::Duration;

use canopy_runtime::connections::Connections;
use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::serve::{ServeOptions, Timing, serve};
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::workers::Workers;
use tokio::net::TcpListener;

use crate::app::{App, OpenError};
use crate::edge;
use crate::routes;
use crate::settings::Settings;

/// What a request may need beside its body and the predictor.
const MARGIN: Duration = Duration::from_secs(1);

/// What writing the last answers to the database may take.
const FLUSH: Duration = Duration::from_secs(3);

/// The process that a gateway lives in, perhaps with others.
#[derive(Clone, Debug)]
pub struct Process {
    /// Who answers.
    pub workers: Workers,
    /// Where its metrics go.
    pub registry: Registry,
    /// Whether it should get traffic.
    pub readiness: Readiness,
    /// Its end.
    pub shutdown: Shutdown,
}

/// Serves the gateway that `settings` describe until the order to stop, when everything is answered.
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
        grace: settings.body_timeout + settings.upstream_timeout + MARGIN,
        on_panic: edge::panicked,
        tells_peer: false,
    };
    serve(listener, routes::router(app.clone()), options, shutdown).await;
    app.close(FLUSH).await;
    Ok(())
}
