//! `canopy serve`: one predictor for a model file, without a gateway.

use std::net::SocketAddr;
use std::pin::pin;

use anyhow::{Context as _, Result};
use canopy_predictor::metrics::Metrics;
use canopy_predictor::serving::server::{self, Process, Serving};
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::listen::{listen, reachable};
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics};

use crate::arguments::ServeArguments;
use crate::up::{self, LIMITS, local_models};
use crate::{console, model_file};

/// Imports the model and serves it until shutdown.
pub(crate) async fn serve(arguments: &ServeArguments, workers: Workers) -> Result<()> {
    let listener = listen(arguments.listen, "--listen").await?;
    let admin_listener = listen(arguments.admin, "--admin").await?;
    // The artifact lasts as long as the process.
    let folder = tempfile::tempdir().context("failed to make a folder for the model")?;
    let pending = local_models::pending(model_file::plan(&arguments.file)?, folder.path());
    let readiness = Readiness::new();
    let importing = readiness.gate("model", "importing");
    let shutdown = Shutdown::on_signals(readiness.clone()).context("failed to listen for signals")?;
    let registry = metrics::registry(up::SERVICE)?;
    let metrics = Metrics::register(&registry)?;
    let control = LogControl::of_flag(arguments.admin.ip().is_loopback());
    admin::spawn(admin_listener, readiness.clone(), registry, control);

    let made = tokio::select! {
        made = local_models::train(vec![pending]) => made?,
        () = shutdown.triggered() => return Ok(()),
    };
    let model = made.into_iter().next().context("no model was imported")?;
    let address = reachable(listener.local_addr().context("failed to read the address of the listener")?);
    let said = told(model.config.model.as_str(), &model.config.revision, address, &model.row);
    let serving = Serving {
        config: model.config,
        folder: model.folder,
        limits: LIMITS,
        drain: std::time::Duration::ZERO,
        gives_up: None,
        hosts: AllowedHosts::of_listener(arguments.listen, &arguments.allowed_hosts),
    };
    let process = Process { workers, metrics, readiness: readiness.clone(), shutdown };
    let mut served = pin!(server::run(serving, listener, process));
    tokio::select! {
        // Polled first, so that the model has closed its gate before readiness is checked.
        biased;
        ended = &mut served => return Ok(ended?),
        ready = up::all_ready(&readiness, importing) => ready?,
    }
    console::print(&said)?;
    Ok(served.await?)
}

fn told(model: &str, revision: &str, address: SocketAddr, row: &[f64]) -> String {
    let features = serde_json::to_string(row).unwrap_or_default();
    format!(
        "model {model}, revision {revision}: http://{address}\n\nTry it:\n  curl -s http://{address}/predict \
         -H 'content-type: application/json' -d '{{\"features\":{features}}}'\n"
    )
}
