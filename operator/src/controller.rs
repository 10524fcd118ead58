//! The operator as a process: stand for the Lease, watch, pass over models, end.
//!
//! Comes in: settings. Goes out: an exit code. Never: two operators that act; one that loses the Lease ends.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;

use canopy_runtime::admin::LogControl;
use canopy_runtime::listen::{ListenError, listen};
use canopy_runtime::readiness::Readiness;
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics as registries, telemetry};
use futures::StreamExt as _;
use futures::stream::poll_fn;
use kube::Client;
use kube::runtime::controller::{Config, applier};

use crate::catalogue;
use crate::cluster::Cluster;
use crate::lease::Election;
use crate::metrics::Metrics;
use crate::pod::Program;
use crate::reconcile::{Context, Unseen, failed, reconcile};
use crate::settings::Settings;
use crate::sources::Sources;
use crate::stores::Writers;
use crate::watch::{self, News};

/// The name of the process, on metrics and traces.
pub const SERVICE: &str = "canopy-operator";
/// How many models are looked at at the same time.
const PASSES_AT_ONCE: u16 = 8;

/// Why the operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error("failed to find the API server: {0}; run inside a cluster, or set KUBECONFIG")]
    Client(#[from] kube::Error),
    /// The admin port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be heard.
    #[error("failed to listen for signals: {0}")]
    Signals(std::io::Error),
    /// Two metrics have one name.
    #[error("failed to set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A watch ended before it had seen anything.
    #[error("failed to fill the stores: {0}")]
    Stores(#[from] kube::runtime::reflector::store::WriterDropped),
}

/// Runs until the order to stop, or until another holds the Lease.
pub async fn run(settings: Settings) -> Result<ExitCode, RunError> {
    let registry = registries::registry(SERVICE)?;
    let metrics = Metrics::register(&registry)?;
    let readiness = Readiness::new();
    let shutdown = Shutdown::on_signals(readiness.clone()).map_err(RunError::Signals)?;
    let gate = readiness.gate("lease", "not asked for yet");
    let listener = listen(settings.admin, "--admin or CANOPY_ADMIN").await?;
    admin::spawn(listener, readiness, registry, LogControl::of_flag(settings.log_control));

    let client = Client::try_default().await?;
    let mut election = Election::new(client.clone(), &settings.namespace, &settings.identity);
    tokio::select! {
        () = election.won(&gate) => {}
        () = shutdown.ordered() => return Ok(ExitCode::SUCCESS),
    }
    metrics.leads(true);
    tracing::info!(identity = settings.identity, "this operator leads");

    let acting = act(client, settings, metrics.clone(), shutdown);
    let ended = tokio::select! {
        ended = acting => ended,
        () = election.lost() => {
            metrics.leads(false);
            tracing::error!("the Lease is lost: another operator may act, so this one ends");
            return Ok(ExitCode::FAILURE);
        }
    };
    election.release().await;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Passes over every model whenever something happened to it, until the order to stop.
async fn act(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let writers = Writers::default();
    let stores = writers.stores();
    let cluster = Cluster::new(client.clone(), metrics.clone(), stores.clone());
    let sources = Sources::default();
    let News { mut models, namespaces } = watch::start(&client, writers, sources.clone(), metrics.clone());
    stores.filled().await?;
    let catalogue = tokio::spawn(catalogue::run(namespaces, cluster.clone()));

    let variables = telemetry::of_traces().into_iter().chain(settings.of_sources()).collect();
    let context = Context {
        program: Program {
            image: settings.predictor_image,
            variables,
            pull_secrets: settings.predictor_pull_secrets,
            sizes: settings.predictor_resources.unwrap_or_default(),
        },
        callers: settings.predictor_callers,
        stores: stores.clone(),
        cluster,
        metrics,
        sources,
        unseen: Unseen::default(),
    };
    let stop = async move { shutdown.ordered().await };
    let news = poll_fn(move |context| models.poll_recv(context)).map(Ok::<_, Infallible>).take_until(stop);
    let at_once = Config::default().concurrency(PASSES_AT_ONCE);
    let passes = applier(
        |model, context| Box::pin(reconcile(model, context)),
        failed,
        Arc::new(context),
        stores.models,
        Box::pin(news),
        at_once,
    );
    // A failed pass was told where it failed; a model that is gone needs none.
    passes.for_each(|_| async {}).await;
    catalogue.abort();
    Ok(())
}
