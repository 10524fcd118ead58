//! `canopy serve`: a predictor for each model file, without a gateway.

use std::fmt::Write as _;
use std::pin::pin;

use anyhow::{Context as _, Result};
use canopy_predictor::metrics::Metrics;
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::listen::listen;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics};
use tokio::net::TcpListener;

use crate::arguments::ServeArguments;
use crate::local_models::{self, TrainedModel};
use crate::{console, model_file, ports, predictors, up};

/// Imports the models and serves them until shutdown.
pub(crate) async fn serve(arguments: &ServeArguments, workers: Workers) -> Result<()> {
    let plans = model_file::plans(&arguments.files, &arguments.names, &arguments.declared)?;
    let listeners = ports::predictors(arguments.listen, plans.len(), "--listen").await?;
    let admin_listener = listen(arguments.admin, "--admin").await?;
    // The artifacts last as long as the process.
    let folder = tempfile::tempdir().context("failed to make a folder for the models")?;
    let pending = plans.into_iter().map(|plan| {
        let folder = folder.path().join(plan.config.model.as_str());
        local_models::pending(plan, &folder)
    });
    let pending = pending.collect();
    let readiness = Readiness::new();
    let importing = readiness.gate("models", "importing");
    let shutdown = Shutdown::on_signals(readiness.clone()).context("failed to listen for signals")?;
    let registry = metrics::registry(up::SERVICE)?;
    let process =
        predictors::Process { workers, metrics: Metrics::register(&registry)?, readiness, shutdown };
    let control = LogControl::of_flag(arguments.admin.ip().is_loopback());
    admin::spawn(admin_listener, process.readiness.clone(), registry, control);

    let made = tokio::select! {
        made = local_models::train(pending) => made?,
        () = process.shutdown.triggered() => return Ok(()),
    };
    let models: Vec<_> = made.into_iter().zip(listeners).collect();
    let said = models.iter().map(said).collect::<Result<String>>()?;
    let hosts = AllowedHosts::of_listener(arguments.listen, &arguments.allowed_hosts);
    let mut served = pin!(predictors::run(models, &hosts, &process));
    tokio::select! {
        ended = &mut served => return ended,
        ready = predictors::all_ready(&process.readiness, importing) => ready?,
    }
    console::print(&said)?;
    served.await
}

/// The address of a model, and an example request.
fn said((model, listener): &(TrainedModel, TcpListener)) -> Result<String> {
    let TrainedModel { config, folder: _, quality: _, row } = model;
    let address = ports::reachable(listener)?;
    let features = serde_json::to_string(row)?;
    let mut text = String::new();
    writeln!(text, "model {}, revision {}: http://{address}", config.model, config.revision)?;
    writeln!(
        text,
        "\nTry it:\n  curl -s http://{address}/predict -H 'content-type: application/json' -d '{{\"features\":{features}}}'"
    )?;
    Ok(text)
}
