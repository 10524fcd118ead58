//! The operator as a process: stand for the Lease, watch, pass over models, end.
//!
//! Comes in: settings. Goes out: an exit code. Never: two operators that act; one that loses the Lease ends.

pub mod report_undecodable;
pub mod triggers;
pub mod discovery_service;
pub mod leader;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;

use canopy_runtime::admin::LogControl;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::listen::{ListenError, listen};
use canopy_runtime::shutdown::Shutdown;
use canopy_runtime::{admin, metrics as registries, telemetry};
use futures::StreamExt as _;
use futures::stream::poll_fn;
use kube::runtime::controller::{Config, applier};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::api::call::Clients;
use crate::api::fence::Fence;
use crate::apply::cluster::Cluster;
use crate::caches::stores::Writers;
use crate::controller::leader::{Candidate, Election};
use crate::controller::triggers::News;
use crate::data_sources::Sources;
use crate::metrics::Metrics;
use crate::pod::template::Program;
use crate::reconcile::{Context, failed, reconcile};
use crate::settings::Settings;

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
    /// A part of the process is no longer there.
    #[error("a task that must not end did: {0}")]
    Ended(String),
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

    let clients = Clients::from_environment().await?;
    let fence = Fence::default();
    let candidate =
        Candidate { identity: settings.identity.clone(), installation: settings.installation.clone() };
    let mut election = Election::new(clients.calls.clone(), &settings.lease_namespace, candidate);
    tokio::select! {
        () = election.won(&gate, &fence) => {}
        () = shutdown.triggered() => return Ok(ExitCode::SUCCESS),
    }
    metrics.leads(true);
    tracing::info!(identity = settings.identity, installation = settings.installation, "this operator leads");

    // On a task of its own, so that no pass delays a renewal.
    let (stop, stopped) = oneshot::channel::<()>();
    let mut holding = tokio::spawn(election.hold(fence.clone(), async { drop(stopped.await) }));
    let ended = tokio::select! {
        biased;
        _ = &mut holding => {
            metrics.leads(false);
            tracing::error!("the Lease is lost: another operator may act, so this one ends");
            return Ok(ExitCode::FAILURE);
        }
        ended = act(clients, fence.clone(), settings, metrics.clone(), shutdown) => ended,
    };
    drop(stop);
    let held = holding.await;
    // Whoever leads next may do so at once, so nothing is written from here on.
    fence.close();
    if let Ok(Some(election)) = held {
        election.release().await;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// Passes over every model whenever something happened to it, until the order to stop.
async fn act(
    clients: Clients,
    fence: Fence,
    settings: Settings,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let writers = Writers::default();
    let stores = writers.stores();
    let cluster = Cluster::new(clients.calls, fence, metrics.clone(), stores.clone());
    let sources = Sources::default();
    let News { mut models, namespaces, unreadable, mut tasks } =
        triggers::start(&clients.watches, writers, sources.clone(), metrics.clone());
    let filled = async {
        tokio::select! {
            filled = stores.filled() => filled.map(|()| true).map_err(RunError::Stores),
            () = shutdown.triggered() => Ok(false),
        }
    };
    if !filled.await? {
        return Ok(());
    }
    let keeper = cluster.clone();
    tasks.spawn(async move {
        discovery_service::run(namespaces, keeper).await;
        "lists of models"
    });
    let teller = cluster.clone();
    tasks.spawn(async move {
        report_undecodable::run(unreadable, teller).await;
        "models that cannot be read"
    });

    let variables = telemetry::of_traces().into_iter().chain(settings.of_sources()).collect();
    let program = Program {
        image: settings.predictor_image,
        variables,
        pull_secrets: settings.predictor_pull_secrets,
        sizes: settings.predictor_resources.unwrap_or_default(),
    };
    let context = Context {
        callers: settings.predictor_callers,
        ..Context::new(program, stores.clone(), cluster, metrics, sources)
    };
    let stop = async move { shutdown.triggered().await };
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
    tokio::select! {
        // A failed pass was told where it failed; a model that is gone needs none.
        () = passes.for_each(|_| async {}) => Ok(()),
        // Without one of them this process would lead and not see what happens.
        ended = tasks.join_next() => Err(RunError::ended(ended)),
    }
}

impl RunError {
    fn ended(task: Option<Result<&'static str, JoinError>>) -> Self {
        Self::Ended(match task {
            Some(Ok(of)) => of.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "none is left".to_owned(),
        })
    }
}
