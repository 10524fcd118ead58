//! One reconcile of one model: decide, write, and report the status.
//!
//! It does not depend on the event that triggered it and starts from the observed state each time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_resource::model::PredictorModel;
use canopy_resource::resolve::InvalidModel;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::events::Event;
use tracing::Instrument as _;

use crate::api::call::{ApplyError, CallError};
use crate::apply::children::{ApplyResult, apply};
use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, BackoffPolicy};
use crate::caches::stores::Stores;
use crate::children::{self, Children};
use crate::labels::REVISION;
use crate::metrics::{Metrics, ReconcileOutcome, ReconcileTimer};
use crate::pod::template::PredictorRuntime;
use crate::pod::template_check::RevisionRef;
use crate::revision::names::RevisionNames;
use crate::revision::snapshot::Snapshot;
use crate::rollout::pod_replacement;
use crate::rollout::progress;
use crate::rollout::refusal_policy;
use crate::rollout::revisions::Rollout;
use crate::settings::callers::Callers;
use crate::spec::DesiredState;
use crate::spec_resolver::SpecResolver;
use crate::state::{Objects, ObservedState, PreviousStatus};
use crate::status::conditions;
use crate::status::events;
use crate::status::inputs::{ApplyOutcome, StatusInputs};
use crate::status::reach::{self, EndpointGaps};
use crate::status::{previous_status, status};
use crate::tracing_spans;

/// Delay until a blocked model is checked again. The end of a blocker causes no event.
const BLOCKED_REQUEUE_DELAY: Duration = Duration::from_secs(15);
/// Backoff of failed reconciles of a model.
const FAILURES: BackoffPolicy = BackoffPolicy {
    free_attempts: 0,
    initial_delay: Duration::from_secs(1),
    max_delay: Duration::from_mins(2),
    reset_after: Duration::from_mins(10),
};
/// Number of failures in a row before the status shows the error.
const FAILURES_BEFORE_STATUS: u32 = 3;

/// Dependencies of a reconcile.
pub struct Context {
    /// Settings of predictors of new revisions.
    pub runtime: PredictorRuntime,
    /// Clients of predictors, if restricted.
    pub callers: Option<Callers>,
    /// Caches.
    pub stores: Stores,
    /// Writes to the API server.
    pub cluster: Cluster,
    /// Metrics.
    pub metrics: Metrics,
    /// Resolved specs.
    pub spec_resolver: SpecResolver,
    /// Written statuses that the watch has not delivered yet.
    pub pending_statuses: PendingStatuses,
    /// Since when each model has had ready pods but no endpoints.
    pub endpoint_gaps: EndpointGaps,
    /// Backoff of models with failed reconciles.
    pub failures: Backoff,
}

impl Context {
    /// The dependencies before the first reconcile.
    pub fn new(
        runtime: PredictorRuntime,
        stores: Stores,
        cluster: Cluster,
        metrics: Metrics,
        spec_resolver: SpecResolver,
    ) -> Self {
        Self {
            runtime,
            callers: None,
            stores,
            cluster,
            metrics,
            spec_resolver,
            pending_statuses: PendingStatuses::default(),
            endpoint_gaps: EndpointGaps::default(),
            failures: Backoff::new(FAILURES),
        }
    }

    /// Removes records of deleted models.
    fn forget(&self) {
        let models = self.stores.models.len();
        let known = [self.pending_statuses.len(), self.endpoint_gaps.len(), self.failures.len()];
        if known.iter().any(|known| *known > models) {
            let there: HashSet<_> =
                self.stores.models.state().iter().filter_map(|model| model.uid()).collect();
            self.pending_statuses.retain(|uid| there.contains(uid));
            self.endpoint_gaps.retain(|uid| there.contains(uid));
            self.failures.retain(|uid| there.contains(uid));
        }
    }
}

/// Reconciles a model now.
pub async fn reconcile(model: Arc<PredictorModel>, context: Arc<Context>) -> Result<Action, CallError> {
    // The future contains all children of the model, so it is boxed.
    let next = Box::pin(reconcile_at(&model, &context, Timestamp::now())).await?;
    context.failures.reset(&model.uid().unwrap_or_default());
    Ok(next.map_or_else(Action::await_change, Action::requeue))
}

/// Reconciles a model as of `now`, in a trace of its own. Returns when to reconcile again without an event.
pub async fn reconcile_at(
    model: &PredictorModel,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Duration>, CallError> {
    let (name, namespace) = (model.metadata.name.as_deref(), model.metadata.namespace.as_deref());
    let span = tracing_spans::reconcile(name.unwrap_or_default(), namespace.unwrap_or_default());
    let result = reconcile_model(model, context, now).instrument(span.clone()).await;
    if let Err(error) = &result {
        span.record("canopy.outcome", ReconcileOutcome::Failed.as_str());
        tracing_spans::failed(&span, "api_server", error);
    }
    result
}

async fn reconcile_model(
    model: &PredictorModel,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Duration>, CallError> {
    let timer = context.metrics.start_reconcile();
    context.forget();
    let model = context.pending_statuses.overlay(model);
    // Kubernetes deletes the children of a deleted model, and the API server rejects invalid names.
    let name = ModelName::try_from(model.name_any()).ok();
    let Some(name) = name.filter(|_| model.metadata.deletion_timestamp.is_none()) else {
        return Ok(finish_settled(timer));
    };
    let LoadedModel { desired, mut observed, source_error } = load(&model, &name, context, now).await?;
    let decided =
        pod_replacement::replace_stuck_pods(Rollout::new(&desired, &observed, now), &desired, &observed, now);
    let mut applied = if model.spec.paused == Some(true) {
        ApplyResult::default()
    } else {
        let children = children::build(&desired, &observed, &decided, context.callers.as_ref());
        match apply_children(&context.cluster, &desired, children).await? {
            Some(applied) => applied,
            None => return Ok(finish_settled(timer)),
        }
    };
    observed.lost = std::mem::take(&mut applied.lost);
    for repair in &applied.repairs {
        publish(&model, &events::repaired(&desired.namespace, repair), context).await;
    }
    let is_source_forbidden = source_error.as_ref().is_some_and(CallError::is_refusal);
    let call_error = source_error.filter(|_| !is_source_forbidden).or(applied.failed.take());
    if call_error.is_some() && context.failures.count(&desired.uid) < FAILURES_BEFORE_STATUS {
        return call_error.map_or(Ok(None), Err);
    }
    applied.blocked.extend(call_error.as_ref().map(CallError::to_diagnosis));
    let outcome = match applied.blocker() {
        _ if model.spec.paused == Some(true) => ApplyOutcome::Paused,
        Some(diagnosis) => ApplyOutcome::Blocked(diagnosis),
        None => ApplyOutcome::Applied,
    };
    let rollout = if applied.is_switched { decided } else { Rollout::unchanged(&observed) };

    let inputs = StatusInputs {
        desired: &desired,
        observed: &observed,
        rollout: &rollout,
        outcome: &outcome,
        refused: None,
        was_ready: false,
        was_available: false,
        now,
    };
    let status = status(&model, inputs);
    let result = report(&model, &desired, status, context).await?;
    if let Some(error) = call_error {
        return Err(error);
    }
    tracing_spans::outcome(result.as_str());
    timer.finish(result);

    let is_blocked = is_source_forbidden || matches!(outcome, ApplyOutcome::Blocked(_));
    let blocked_requeue = is_blocked.then_some(BLOCKED_REQUEUE_DELAY);
    let by_time = requeue_after(&desired, &observed, &rollout, now);
    Ok([by_time, blocked_requeue, applied.retry_after].into_iter().flatten().min())
}

/// The time until the next reconcile that no event triggers.
fn requeue_after(
    desired: &DesiredState,
    observed: &ObservedState,
    rollout: &Rollout,
    now: Timestamp,
) -> Option<Duration> {
    let delays = [
        rollout.requeue_after(desired, now),
        refusal_policy::requeue_after(desired, observed, now),
        progress::requeue_after(desired, observed, now),
        pod_replacement::requeue_after(observed, now),
        reach::requeue_after(observed),
    ];
    delays.into_iter().flatten().min()
}

/// Applies the children of a model. `None` if its namespace is being deleted: the model will be deleted with it.
async fn apply_children(
    cluster: &Cluster,
    desired: &DesiredState,
    children: Children,
) -> Result<Option<ApplyResult>, CallError> {
    match Box::pin(apply(cluster, desired, children)).await {
        Ok(applied) => Ok(Some(applied)),
        Err(ApplyError::Blocked(diagnosis)) => {
            Ok(Some(ApplyResult { blocked: vec![diagnosis], ..ApplyResult::default() }))
        }
        Err(ApplyError::NamespaceTerminating) => Ok(None),
        Err(ApplyError::Call(error)) => Err(error),
    }
}

/// Ends a reconcile that changes nothing until the next event.
fn finish_settled(timer: ReconcileTimer<'_>) -> Option<Duration> {
    tracing_spans::outcome(ReconcileOutcome::Settled.as_str());
    timer.finish(ReconcileOutcome::Settled);
    None
}

/// The error policy of the controller: retries with backoff, and not before the time that the API server requests.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
pub fn error_policy(model: Arc<PredictorModel>, error: &CallError, context: Arc<Context>) -> Action {
    let delay = retry_delay(&model, error, &context);
    let (model, namespace) = (model.name_any(), model.namespace().unwrap_or_default());
    tracing::warn!(model, namespace, %error, ?delay, "failed to reconcile a model; retrying");
    Action::requeue(delay)
}

/// Delay before the next reconcile of a model after `error`.
pub fn retry_delay(model: &PredictorModel, error: &CallError, context: &Context) -> Duration {
    let delay = context.failures.record_failure(&model.uid().unwrap_or_default());
    error.retry_after().map_or(delay, |asked| asked + delay)
}

/// The state a reconcile starts from.
struct LoadedModel {
    /// Desired state.
    desired: DesiredState,
    /// Observed state.
    observed: ObservedState,
    /// Error of reading the `ConfigMap` of the user. The serving revision is maintained nevertheless.
    source_error: Option<CallError>,
}

async fn load(
    model: &PredictorModel,
    name: &ModelName,
    context: &Context,
    now: Timestamp,
) -> Result<LoadedModel, CallError> {
    let (namespace, uid) = (model.namespace().unwrap_or_default(), model.uid().unwrap_or_default());
    let revision_ref = RevisionRef { model: name, namespace: &namespace, uid: &uid, revision: "" };
    let (objects, previous_status) = (context.stores.of_model(&namespace, &uid), previous_status(model, now));
    let mut snapshots = BTreeMap::new();
    for controller_revision in &objects.controller_revisions {
        let Some(revision) = controller_revision.labels().get(REVISION) else { continue };
        // A ControllerRevision that the operator did not write is replaced later if its revision is kept.
        let read = Snapshot::read(controller_revision, RevisionRef { revision, ..revision_ref });
        snapshots.extend(read.ok().map(|read| (revision.clone(), read)));
    }
    let names = names(&snapshots, &objects, &previous_status);
    let (desired, source_error) = desired_state(model, name, &names, context).await?;
    for (revision, adoptable) in context.cluster.adoptable(revision_ref, &objects, &snapshots).await? {
        let target = desired.target.as_ref().ok().filter(|target| target.revision == revision);
        match adoptable.into_snapshot(target, RevisionRef { revision: &revision, ..revision_ref }) {
            Ok(adopted) => drop(snapshots.insert(revision, adopted)),
            Err(why) => {
                tracing::warn!(model = %name, namespace, revision, why, "a Deployment of an earlier version cannot be adopted and is left as it is");
            }
        }
    }
    let mut observed = ObservedState::read(name, &objects, snapshots, previous_status);
    observed.reach = context.endpoint_gaps.reach(model, name, &observed, now);
    Ok(LoadedModel { desired, observed, source_error })
}

fn names(
    snapshots: &BTreeMap<String, Snapshot>,
    objects: &Objects,
    previous_status: &PreviousStatus,
) -> RevisionNames {
    let there = objects.deployments.iter().filter_map(|deployment| deployment.labels().get(REVISION));
    RevisionNames::new(
        snapshots,
        there.map(String::as_str),
        &[&previous_status.revision, &previous_status.refused],
    )
}

/// Computes the desired state, with the error if the data could not be read. The data are read again if their
/// `ConfigMap` must be recreated.
async fn desired_state(
    model: &PredictorModel,
    name: &ModelName,
    names: &RevisionNames,
    context: &Context,
) -> Result<(DesiredState, Option<CallError>), CallError> {
    let build = |resolved| DesiredState::new(name.clone(), model, &context.runtime, resolved, names);
    let resolved = async || context.spec_resolver.resolve(model, &context.cluster).await;
    let mut read = resolved().await;
    if let Ok(found) = &read
        && context.cluster.lacks_data(&build(found.clone())).await?
    {
        context.spec_resolver.forget(model);
        read = resolved().await;
    }
    match read {
        Ok(resolved) => Ok((build(resolved), None)),
        Err(error) if error.affects_all_calls() => Err(error),
        Err(error) => {
            let unknown = build(Err(InvalidModel { faults: Vec::new() }));
            Ok((DesiredState { target: Err(error.to_diagnosis()), ..unknown }, Some(error)))
        }
    }
}

async fn report(
    model: &PredictorModel,
    desired: &DesiredState,
    status: PredictorModelStatus,
    context: &Context,
) -> Result<ReconcileOutcome, CallError> {
    let settled = conditions::is_settled(&status);
    context.cluster.write_status(model, &status).await?;
    if let Some(event) = events::status_changed(model.status.as_ref(), &status, desired) {
        publish(model, &event, context).await;
    }
    context.pending_statuses.record(model, status);
    Ok(if settled { ReconcileOutcome::Settled } else { ReconcileOutcome::Waiting })
}

async fn publish(model: &PredictorModel, event: &Event, context: &Context) {
    match context.cluster.publish(model, event).await {
        Ok(()) => {}
        // Events cannot be created in a namespace that is being deleted.
        Err(error) if error.is_namespace_terminating() || error.is_not_found() => {
            tracing::debug!(%error, "failed to publish an Event");
        }
        Err(error) => tracing::warn!(%error, "failed to publish an Event"),
    }
}

/// Written statuses that the watch has not delivered yet. Without them the next reconcile would write the status and
/// its Event again.
#[derive(Debug, Default)]
pub struct PendingStatuses(Mutex<HashMap<String, PendingStatus>>);

#[derive(Debug)]
struct PendingStatus {
    /// Resource version of the model for which the status was written.
    resource_version: Option<String>,
    status: PredictorModelStatus,
}

impl PendingStatuses {
    fn overlay(&self, model: &PredictorModel) -> PredictorModel {
        let mut model = model.clone();
        let uid = model.uid().unwrap_or_default();
        let mut written = self.all();
        match written.get(&uid) {
            Some(PendingStatus { resource_version, status })
                if *resource_version == model.resource_version() =>
            {
                model.status = Some(status.clone());
            }
            Some(_) => drop(written.remove(&uid)),
            None => {}
        }
        model
    }

    fn record(&self, model: &PredictorModel, status: PredictorModelStatus) {
        if model.status.as_ref() != Some(&status) {
            let written = PendingStatus { resource_version: model.resource_version(), status };
            let uid = model.uid().unwrap_or_default();
            self.all().insert(uid, written);
        }
    }

    fn len(&self) -> usize {
        self.all().len()
    }

    fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|uid, _| is_there(uid));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, PendingStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
