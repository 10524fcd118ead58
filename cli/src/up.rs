//! `canopy up`: trains the models of manifests and serves them through the gateway, all in this process.
//!
//! If one model is refused, none is served.

mod summary;

use std::path::Path;
use std::pin::pin;

use anyhow::{Context as _, Result, ensure};
use canopy_contract::names::DEFAULT_NAMESPACE;
use canopy_gateway::serve::Process;
use canopy_gateway::settings::{Predictor, Predictors, Settings};
use canopy_predictor::files::{self, Lock};
use canopy_predictor::metrics::Metrics;
use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::{Readiness, ReadinessGate};
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics};
use tokio::net::TcpListener;

use crate::arguments::{Output, UpArguments};
use crate::local_models::{self, PendingModel, TrainedModel};
use crate::ports::{Ports, reachable};
use crate::{console, manifests, model_file, predictors};
use summary::{Served, Summary};

/// The process's name on metrics and traces.
pub(crate) const SERVICE: &str = "canopy";

/// Trains and serves until shutdown.
pub(crate) async fn up(arguments: &UpArguments, workers: Workers) -> Result<()> {
    let plans = plans(arguments)?;
    let Ports { gateway, admin, predictors } = Ports::take(arguments, plans.len()).await?;
    let _lock = lock(&arguments.data)?;

    let readiness = Readiness::new();
    let training = readiness.gate("models", "training");
    let shutdown = Shutdown::on_signals(readiness.clone()).context("failed to listen for signals")?;
    let process_parts = Process { workers, registry: metrics::registry(SERVICE)?, readiness, shutdown };
    let admin_address = reachable(&admin)?;
    // A port on loopback is only reached from this machine.
    let control = LogControl::of_flag(arguments.admin.ip().is_loopback());
    admin::spawn(admin, process_parts.readiness.clone(), process_parts.registry.clone(), control);

    let made = tokio::select! {
        made = local_models::train(plans) => made?,
        () = process_parts.shutdown.triggered() => return Ok(()),
    };

    let default_model = made.iter().position(|model| model.called() == "demo").unwrap_or(0);
    let addresses = predictors.iter().map(reachable).collect::<Result<Vec<_>>>()?;
    let served: Vec<_> =
        made.iter().zip(&addresses).map(|(made, address)| Served::new(made, *address)).collect();
    let summary = Summary::new(reachable(&gateway)?, admin_address, served, default_model);
    let hosts = AllowedHosts::of_listener(arguments.gateway, &arguments.allowed_hosts);
    let settings = Settings {
        namespaces: Some(namespaces(&made)),
        default_model: made.get(default_model).map(TrainedModel::called).unwrap_or_default(),
        predictors: Predictors(
            made.iter()
                .zip(addresses)
                .map(|(made, address)| Predictor { model: made.called(), address: address.into() })
                .collect(),
        ),
        database_url: Some(database_url(&arguments.data)?),
        list_predictions: arguments.lists_predictions(),
        drain_seconds: 0,
        hosts,
        ..Settings::default()
    };
    let parts = Parts {
        settings,
        gateway,
        models: made.into_iter().zip(predictors).collect(),
        hosts: AllowedHosts::of_listener(arguments.predictor, &arguments.allowed_hosts),
    };
    let said = match arguments.output {
        Output::Text => format!("\n{summary}\n"),
        Output::Json => serde_json::to_string(&summary)? + "\n",
    };
    serve(parts, &process_parts, training, &said).await
}

/// The models of all manifests and model files; the demo model if there are neither.
fn plans(arguments: &UpArguments) -> Result<Vec<PendingModel>> {
    let mut plans = Vec::new();
    if !arguments.files.is_empty() || arguments.models.is_empty() {
        plans = local_models::plan(&manifests::load(&arguments.files)?, &arguments.data)?;
    }
    for plan in model_file::plans(&arguments.models, &arguments.names, &arguments.declared)? {
        let folder = local_models::folder(&arguments.data, plan.config.model.as_str(), DEFAULT_NAMESPACE);
        let pending = local_models::pending(plan, &folder);
        let called = pending.called();
        let is_unique = plans.iter().all(|other| other.called() != called);
        ensure!(
            is_unique,
            "the model {called} is in a manifest, too: give the model of the file another name with --name"
        );
        plans.push(pending);
    }
    Ok(plans)
}

/// The gateway and the models behind it.
struct Parts {
    settings: Settings,
    gateway: TcpListener,
    models: Vec<(TrainedModel, TcpListener)>,
    /// The hosts that requests to predictors may name.
    hosts: AllowedHosts,
}

/// Serves all parts, and prints the summary once all are ready.
async fn serve(parts: Parts, process_parts: &Process, training: ReadinessGate, said: &str) -> Result<()> {
    let Parts { settings, gateway, models, hosts } = parts;
    // Predictors stop after the gateway, which needs them for requests in flight.
    let behind = Shutdown::new(Readiness::new());
    let gateway = async {
        canopy_gateway::serve::run(&settings, gateway, process_parts.clone()).await?;
        behind.trigger();
        anyhow::Ok(())
    };
    let process = predictors::Process {
        workers: process_parts.workers.clone(),
        metrics: Metrics::register(&process_parts.registry)?,
        readiness: process_parts.readiness.clone(),
        shutdown: behind.clone(),
    };
    let predictors = predictors::run(models, &hosts, &process);
    let mut serving = pin!(async {
        tokio::try_join!(gateway, predictors)?;
        anyhow::Ok(())
    });
    tokio::select! {
        // Polled first, so that every part has closed its gate before readiness is checked.
        biased;
        ended = &mut serving => return ended,
        ready = predictors::all_ready(&process_parts.readiness, training) => ready?,
    }
    console::print(said)?;
    serving.await
}

/// Locks the data folder until the lock is dropped: two processes would replace each other's models.
fn lock(data: &Path) -> Result<Lock> {
    files::make_folder(data)?;
    files::lock(&data.join("canopy.lock"))?.with_context(|| {
        format!(
            "{} is in use by another canopy up; end that one, or choose another folder with --data",
            data.display()
        )
    })
}

fn namespaces(made: &[TrainedModel]) -> String {
    let mut namespaces: Vec<_> = made.iter().map(|made| made.config.namespace.as_str()).collect();
    namespaces.push(DEFAULT_NAMESPACE);
    namespaces.sort_unstable();
    namespaces.dedup();
    namespaces.join(",")
}

fn database_url(data: &Path) -> Result<String> {
    let path = data.join("canopy.db");
    let path = path
        .to_str()
        .with_context(|| format!("failed to name a file in {}: it is not UTF-8", data.display()))?;
    // These characters have a meaning in a URL.
    Ok(format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23")))
}
