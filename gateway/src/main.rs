//! The gateway as a process. All work is in the library, which `canopy up` shares.

use std::net::SocketAddr;
use std::process::ExitCode;

use canopy_contract::names::{GATEWAY_ADMIN_PORT, GATEWAY_PORT};
use canopy_gateway::serve::{Process, run};
use canopy_gateway::settings::Settings;
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::listen;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics, process};
use clap::Parser;

const SERVICE: &str = "canopy-gateway";

/// Receives prediction requests, validates them, and forwards them to the predictors of the models
#[derive(Parser)]
#[command(name = SERVICE, version, after_help = "\
Example:
  CANOPY_PREDICTORS=demo=http://127.0.0.1:8001 canopy-gateway --database-url sqlite://canopy.db
  curl -s localhost:8000/api/predict -H 'content-type: application/json' -d '{\"features\":[1,2,-0.5,0.3]}'

Logs: RUST_LOG (as in warn,canopy_gateway=debug), CANOPY_LOG_FORMAT (json or pretty).
With --log-control: curl -X PUT localhost:9000/log -d warn,canopy_gateway=debug changes the levels.
Traces: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER.")]
struct Flags {
    #[command(flatten)]
    settings: Settings,

    /// Address for requests
    #[arg(long, env = "CANOPY_LISTEN", value_name = "ADDR", default_value_t = SocketAddr::from(([0, 0, 0, 0], GATEWAY_PORT)))]
    listen: SocketAddr,

    /// Address for liveness, readiness and metrics
    #[arg(long, env = "CANOPY_ADMIN", value_name = "ADDR", default_value_t = SocketAddr::from(([0, 0, 0, 0], GATEWAY_ADMIN_PORT)))]
    admin: SocketAddr,

    /// Allows changing log levels at the admin port from the same machine or pod. Do not use it behind a proxy that makes every
    /// caller local
    #[arg(long, env = "CANOPY_LOG_CONTROL")]
    log_control: bool,

    /// Number of threads that serve requests [default: one per CPU, at most 4]
    #[arg(long, env = "CANOPY_WORKERS", value_name = "NUMBER")]
    workers: Option<usize>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    process::serve(SERVICE, flags.workers, |workers| work(flags, workers))
}

async fn work(flags: Flags, workers: Workers) -> anyhow::Result<ExitCode> {
    let Flags { settings, listen: address, admin, log_control, workers: _ } = flags;
    let registry = metrics::registry(SERVICE)?;
    let readiness = Readiness::new();
    let shutdown = Shutdown::on_signals(readiness.clone())?;
    let listener = listen::listen(address, "--listen or CANOPY_LISTEN").await?;
    let admin_listener = listen::listen(admin, "--admin or CANOPY_ADMIN").await?;

    let admin_listening = admin_listener.local_addr()?;
    admin::spawn(admin_listener, readiness.clone(), registry.clone(), LogControl::of_flag(log_control));

    tracing::info!(address = %listener.local_addr()?, admin = %admin_listening, "starting");
    run(&settings, listener, Process { workers, registry, readiness, shutdown }).await?;
    Ok(ExitCode::SUCCESS)
}
