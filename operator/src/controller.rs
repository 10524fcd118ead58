//! The operator as a process: leader election, watches, reconciles, and shutdown. A process that loses the Lease
//! exits.

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
use futures::future::try_join_all;
use futures::stream::poll_fn;
use kube::runtime::controller::{Config, applier};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinError;

use crate::api::call::Clients;
use crate::api::fence::Fence;
use crate::api::scope::Scope;
use crate::apply::cluster::Cluster;
use crate::caches::stores::Writers;
use crate::controller::leader::{Candidate, Election};
use crate::controller::triggers::Queues;
use crate::metrics::Metrics;
use crate::pod::template::PredictorRuntime;
use crate::reconcile::{Context, error_policy, reconcile};
use crate::settings::Settings;
use crate::settings::callers::Callers;
use crate::spec_resolver::SpecResolver;

/// Service name in metrics and traces.
pub const SERVICE: &str = "canopy-operator";
/// Maximum number of models reconciled at the same time.
const MAX_CONCURRENT_RECONCILES: u16 = 8;

/// Why the operator ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No API server is configured.
    #[error("failed to connect to the API server: {0}; run in a cluster or set KUBECONFIG")]
    Client(#[from] kube::Error),
    /// The admin port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signal handlers cannot be installed.
    #[error("failed to listen for signals: {0}")]
    Signals(std::io::Error),
    /// A metric cannot be registered.
    #[error("failed to set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A background task ended.
    #[error("background task ended unexpectedly: {0}")]
    Ended(String),
    /// A watch ended before its store was filled.
    #[error("failed to fill the caches: {0}")]
    Stores(#[from] kube::runtime::reflector::store::WriterDropped),
}

/// Runs until it receives a signal or loses the Lease.
pub async fn run(settings: Settings) -> Result<ExitCode, RunError> {
    let registry = registries::registry(SERVICE)?;
    let metrics = Metrics::register(&registry)?;
    let readiness = Readiness::new();
    let shutdown = Shutdown::on_signals(readiness.clone()).map_err(RunError::Signals)?;
    let gate = readiness.gate("lease", "leader election has not started");
    let listener = listen(settings.admin, "--admin or CANOPY_ADMIN").await?;
    admin::spawn(listener, readiness, registry, LogControl::of_flag(settings.log_control));

    let clients = Clients::from_environment().await?;
    let fence = Fence::default();
    let candidate =
        Candidate { identity: settings.identity.clone(), installation: settings.installation.clone() };
    let mut election = Election::new(clients.calls.clone(), &settings.lease_namespace, candidate);
    if !election.acquire(&gate, &fence, shutdown.triggered()).await {
        return Ok(ExitCode::SUCCESS);
    }
    metrics.set_leader(true);
    tracing::info!(identity = settings.identity, installation = settings.installation, "became leader");

    // Renewals run in a task of their own, so that reconciles cannot delay them.
    let (stop, stopped) = oneshot::channel::<()>();
    let mut renewal_task = tokio::spawn(election.renew_until(fence.clone(), async { drop(stopped.await) }));
    let ended = tokio::select! {
        biased;
        _ = &mut renewal_task => {
            metrics.set_leader(false);
            tracing::error!("lost the Lease, exiting: another operator may lead");
            return Ok(ExitCode::FAILURE);
        }
        ended = run_controllers(clients, fence.clone(), settings, metrics.clone(), shutdown) => ended,
    };
    drop(stop);
    let held = renewal_task.await;
    // Another operator may lead from now on, so the fence is closed first.
    fence.close();
    if let Ok(Some(election)) = held {
        election.release().await;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// Reconciles the models of all watched namespaces until shutdown, or until a controller fails.
pub(crate) async fn run_controllers(
    clients: Clients,
    fence: Fence,
    settings: Settings,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let variables = telemetry::of_traces().into_iter().chain(settings.source_network_variables()).collect();
    let namespaces = settings.watched_namespaces();
    let runtime = PredictorRuntime {
        image: settings.predictor_image,
        variables,
        pull_secrets: settings.predictor_pull_secrets,
        default_resources: settings.predictor_resources.unwrap_or_default(),
    };
    let slots = Arc::new(Semaphore::new(MAX_CONCURRENT_RECONCILES.into()));
    let controllers = namespaces.into_iter().map(|namespace| {
        let controller = Controller {
            clients: clients.clone(),
            fence: fence.clone(),
            runtime: runtime.clone(),
            callers: settings.predictor_callers.clone(),
            metrics: metrics.clone(),
            slots: slots.clone(),
        };
        Box::pin(controller.run(namespace, shutdown.clone()))
    });
    try_join_all(controllers).await.map(drop)
}

/// The controller of one namespace, or of all. Several controllers run independently: a namespace that does not exist
/// yet, or whose Role is missing, delays only its own models.
struct Controller {
    clients: Clients,
    fence: Fence,
    runtime: PredictorRuntime,
    callers: Option<Callers>,
    metrics: Metrics,
    /// Limits the models that all controllers reconcile at the same time.
    slots: Arc<Semaphore>,
}

impl Controller {
    /// Reconciles each model when it or its children change, until shutdown.
    async fn run(self, namespace: Option<String>, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { clients, fence, runtime, callers, metrics, slots } = self;
        let writers = Writers::default();
        let stores = writers.stores();
        let cluster = Cluster::new(clients.calls, fence, metrics.clone(), stores.clone());
        let spec_resolver = SpecResolver::default();
        let scope = Scope { client: clients.watches, namespace };
        let Queues { mut models, namespaces, undecodable, mut tasks } =
            triggers::start(&scope, writers, spec_resolver.clone(), metrics.clone());
        let filled = async {
            tokio::select! {
                filled = stores.wait_until_ready() => filled.map(|()| true).map_err(RunError::Stores),
                () = shutdown.triggered() => Ok(false),
            }
        };
        if !filled.await? {
            return Ok(());
        }
        let discovery_cluster = cluster.clone();
        tasks.spawn(async move {
            discovery_service::run(namespaces, discovery_cluster).await;
            "discovery Services"
        });
        let undecodable_cluster = cluster.clone();
        tasks.spawn(async move {
            report_undecodable::run(undecodable, undecodable_cluster).await;
            "undecodable models"
        });

        let context =
            Context { callers, ..Context::new(runtime, stores.clone(), cluster, metrics, spec_resolver) };
        let stop = async move { shutdown.triggered().await };
        let queue =
            poll_fn(move |context| models.poll_recv(context)).map(Ok::<_, Infallible>).take_until(stop);
        let config = Config::default().concurrency(MAX_CONCURRENT_RECONCILES);
        let reconciliations = applier(
            move |model, context| {
                let slots = slots.clone();
                Box::pin(async move {
                    let _slot = slots.acquire().await;
                    reconcile(model, context).await
                })
            },
            error_policy,
            Arc::new(context),
            stores.models,
            Box::pin(queue),
            config,
        );
        tokio::select! {
            // Failures were logged by the error policy.
            () = reconciliations.for_each(|_| async {}) => Ok(()),
            // Without this task the operator would lead without seeing changes.
            ended = tasks.join_next() => Err(RunError::ended(ended)),
        }
    }
}

impl RunError {
    fn ended(task: Option<Result<&'static str, JoinError>>) -> Self {
        Self::Ended(match task {
            Some(Ok(of)) => of.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "no task is left".to_owned(),
        })
    }
}
