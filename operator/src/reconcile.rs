//! One pass over one model: decide, write, say what happened.
//!
//! Comes in: a model. Goes out: when to come back though nothing changes. Never: a question why it was called; it
//! starts from the beginning every time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_resource::model::PredictorModel;
use canopy_resource::plan::Refusal;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::Instrument as _;

use crate::api::call::{ApplyError, CallError};
use crate::apply::children::{Applied, apply};
use crate::apply::cluster::Cluster;
use crate::backoff::{Backoff, Growth};
use crate::caches::stores::Stores;
use crate::children::desired;
use crate::data_sources::Sources;
use crate::labels::REVISION;
use crate::metrics::{Metrics, Pass, PassOutcome};
use crate::pod::template::Program;
use crate::pod::template_check::Whose;
use crate::revision::names::Names;
use crate::revision::snapshot::Frozen;
use crate::rollout::progress;
use crate::rollout::refusal_policy;
use crate::rollout::renewal;
use crate::rollout::revisions::Rollout;
use crate::settings::callers::Callers;
use crate::spec::Plan;
use crate::state::{Objects, Observed, Remembered};
use crate::status::conditions;
use crate::status::events::{self, Announcement};
use crate::status::facts::Outcome;
use crate::status::reach::{self, Unreached};
use crate::status::{remembered, status};
use crate::tracing_spans;

/// After how long to look again whether what hinders a model is gone: nobody tells when it is.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How passes over a model that fail slow down.
const FAILURES: Growth = Growth {
    free: 0,
    first: Duration::from_secs(1),
    most: Duration::from_mins(2),
    forget: Duration::from_mins(10),
};
/// How often a call may fail before the status says so.
const TOLD_AFTER: u32 = 3;

/// What every pass needs.
pub struct Context {
    /// What predictors of new revisions run.
    pub program: Program,
    /// Who may call predictors, where that is limited.
    pub callers: Option<Callers>,
    /// What the watches saw last.
    pub stores: Stores,
    /// Who writes.
    pub cluster: Cluster,
    /// What is measured.
    pub metrics: Metrics,
    /// What each model means.
    pub sources: Sources,
    /// Statuses that were written and that the watch has not shown yet.
    pub unseen: Unseen,
    /// Models whose ready pods gateways do not find.
    pub unreached: Unreached,
    /// Models whose passes fail.
    pub failures: Backoff,
}

impl Context {
    /// What passes need before the first.
    pub fn new(
        program: Program,
        stores: Stores,
        cluster: Cluster,
        metrics: Metrics,
        sources: Sources,
    ) -> Self {
        Self {
            program,
            callers: None,
            stores,
            cluster,
            metrics,
            sources,
            unseen: Unseen::default(),
            unreached: Unreached::default(),
            failures: Backoff::new(FAILURES),
        }
    }

    /// Forgets what was known of models that are gone.
    fn forget(&self) {
        let models = self.stores.models.len();
        if [self.unseen.len(), self.unreached.len(), self.failures.len()].iter().any(|known| *known > models)
        {
            let there: HashSet<_> =
                self.stores.models.state().iter().filter_map(|model| model.uid()).collect();
            self.unseen.keep(|uid| there.contains(uid));
            self.unreached.keep(|uid| there.contains(uid));
            self.failures.keep(|uid| there.contains(uid));
        }
    }
}

/// One pass, now.
pub async fn reconcile(model: Arc<PredictorModel>, context: Arc<Context>) -> Result<Action, CallError> {
    // The future of a pass holds every child it may write: too large to be carried about.
    let next = Box::pin(pass(&model, &context, Timestamp::now())).await?;
    context.failures.clear(&model.uid().unwrap_or_default());
    Ok(next.map_or_else(Action::await_change, Action::requeue))
}

/// One pass, as a trace of its own. Returns when to come back though nothing changes.
pub async fn pass(
    model: &PredictorModel,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Duration>, CallError> {
    let (name, namespace) = (model.metadata.name.as_deref(), model.metadata.namespace.as_deref());
    let span = tracing_spans::pass(name.unwrap_or_default(), namespace.unwrap_or_default());
    let ended = decide_and_write(model, context, now).instrument(span.clone()).await;
    if let Err(error) = &ended {
        span.record("canopy.outcome", PassOutcome::Failed.as_str());
        tracing_spans::failed(&span, "api_server", error);
    }
    ended
}

async fn decide_and_write(
    model: &PredictorModel,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Duration>, CallError> {
    let pass = context.metrics.pass_started();
    context.forget();
    let model = context.unseen.bring_up_to_date(model);
    // Kubernetes removes the children of a model that goes; and no API server lets a wrong name in.
    let name = ModelName::try_from(model.name_any()).ok();
    let Some(name) = name.filter(|_| model.metadata.deletion_timestamp.is_none()) else {
        return Ok(nothing_to_do(pass));
    };
    let Look { plan, mut observed, unread } = look(&model, &name, context, now).await?;
    let decided = renewal::renew(Rollout::new(&plan, &observed, now), &plan, &observed, now);
    let mut applied = if model.spec.paused == Some(true) {
        Applied::default()
    } else {
        let children = desired(&plan, &observed, &decided, context.callers.as_ref());
        match Box::pin(apply(&context.cluster, &plan, children)).await {
            Ok(applied) => applied,
            Err(ApplyError::Hindered(trouble)) => Applied { blocked: vec![trouble], ..Applied::default() },
            // The model goes too, soon.
            Err(ApplyError::NamespaceGoes) => return Ok(nothing_to_do(pass)),
            Err(ApplyError::Call(error)) => return Err(error),
        }
    };
    observed.lost = std::mem::take(&mut applied.lost);
    for repair in &applied.repairs {
        announce(&model, &events::of_repair(&plan.namespace, repair), context).await;
    }
    let is_unreadable = unread.as_ref().is_some_and(CallError::is_refusal);
    let failed = unread.filter(|_| !is_unreadable).or(applied.failed.take());
    if failed.is_some() && context.failures.count(&plan.uid) < TOLD_AFTER {
        return failed.map_or(Ok(None), Err);
    }
    applied.blocked.extend(failed.as_ref().map(CallError::as_trouble));
    let outcome = match applied.hindrance() {
        _ if model.spec.paused == Some(true) => Outcome::Paused,
        Some(trouble) => Outcome::Hindered(trouble),
        None => Outcome::Applied,
    };
    let rollout = if applied.is_switched { decided } else { Rollout::untouched(&observed) };

    let status = status(&model, &plan, &observed, (&rollout, &outcome), now);
    let ended = report(&model, status, context).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    tracing_spans::outcome(ended.as_str());
    pass.ended(ended);

    let is_hindered = is_unreadable || matches!(outcome, Outcome::Hindered(_));
    let hindered = is_hindered.then_some(LOOK_AGAIN);
    let by_time = [
        rollout.next(&plan, now),
        refusal_policy::next(&plan, &observed, now),
        progress::next(&plan, &observed, now),
        renewal::next(&observed, now),
        reach::next(&observed),
    ];
    let next = by_time.into_iter().chain([hindered, applied.again]);
    Ok(next.flatten().min())
}

/// Ends a pass that leaves everything as it is until something changes.
fn nothing_to_do(pass: Pass<'_>) -> Option<Duration> {
    tracing_spans::outcome(PassOutcome::Settled.as_str());
    pass.ended(PassOutcome::Settled);
    None
}

/// What happens where a call failed: it is tried again, ever more slowly, and not before the API server wants it.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
pub fn failed(model: Arc<PredictorModel>, error: &CallError, context: Arc<Context>) -> Action {
    let delay = delay_after(&model, error, &context);
    let (model, namespace) = (model.name_any(), model.namespace().unwrap_or_default());
    tracing::warn!(model, namespace, %error, ?delay, "a pass over a model failed and is tried again");
    Action::requeue(delay)
}

/// After how long to try a pass over a model again that failed for `error`.
pub fn delay_after(model: &PredictorModel, error: &CallError, context: &Context) -> Duration {
    let delay = context.failures.strike(&model.uid().unwrap_or_default());
    error.put_off().map_or(delay, |asked| asked + delay)
}

/// What a pass begins with.
struct Look {
    /// What the model asks for.
    plan: Plan,
    /// What there is of it.
    observed: Observed,
    /// Why the user's `ConfigMap` alone could not be read. What serves is maintained all the same.
    unread: Option<CallError>,
}

async fn look(
    model: &PredictorModel,
    name: &ModelName,
    context: &Context,
    now: Timestamp,
) -> Result<Look, CallError> {
    let (namespace, uid) = (model.namespace().unwrap_or_default(), model.uid().unwrap_or_default());
    let whose = Whose { model: name, namespace: &namespace, uid: &uid, revision: "" };
    let (objects, remembered) = (context.stores.of_model(&namespace, &uid), remembered(model, now));
    let mut frozen = BTreeMap::new();
    for snapshot in &objects.snapshots {
        let Some(revision) = snapshot.labels().get(REVISION) else { continue };
        // One that was not written by the operator is replaced where the revision stays.
        let read = Frozen::read(snapshot, Whose { revision, ..whose });
        frozen.extend(read.ok().map(|read| (revision.clone(), read)));
    }
    let names = names(&frozen, &objects, &remembered);
    let (plan, unread) = plan(model, name, &names, context).await?;
    for (revision, adoptable) in context.cluster.adoptable(whose, &objects, &frozen).await? {
        let target = plan.target.as_ref().ok().filter(|target| target.revision == revision);
        match adoptable.freeze(target, Whose { revision: &revision, ..whose }) {
            Ok(adopted) => drop(frozen.insert(revision, adopted)),
            Err(why) => {
                tracing::warn!(model = %name, namespace, revision, why, "a Deployment cannot be adopted and is left as it is");
            }
        }
    }
    let mut observed = Observed::read(name, &objects, frozen, remembered);
    observed.reach = context.unreached.reach(model, name, &observed, now);
    Ok(Look { plan, observed, unread })
}

fn names(frozen: &BTreeMap<String, Frozen>, objects: &Objects, remembered: &Remembered) -> Names {
    let there = objects.deployments.iter().filter_map(|deployment| deployment.labels().get(REVISION));
    Names::new(frozen, there.map(String::as_str), &[&remembered.revision, &remembered.refused])
}

/// What the model asks for, and why its data could not be read. They are read where a copy of them must be made.
async fn plan(
    model: &PredictorModel,
    name: &ModelName,
    names: &Names,
    context: &Context,
) -> Result<(Plan, Option<CallError>), CallError> {
    let plan = |meant| Plan::new((name.clone(), model), &context.program, meant, names);
    let meant = async || context.sources.meant(model, &context.cluster).await;
    let mut read = meant().await;
    if let Ok(found) = &read
        && context.cluster.lacks_data(&plan(found.clone())).await?
    {
        context.sources.forget(model);
        read = meant().await;
    }
    match read {
        Ok(meant) => Ok((plan(meant), None)),
        Err(error) if error.stops_all() => Err(error),
        Err(error) => {
            let unknown = plan(Err(Refusal { faults: Vec::new() }));
            Ok((Plan { target: Err(error.as_trouble()), ..unknown }, Some(error)))
        }
    }
}

async fn report(
    model: &PredictorModel,
    status: PredictorModelStatus,
    context: &Context,
) -> Result<PassOutcome, CallError> {
    let settled = conditions::is_settled(&status);
    context.cluster.report(model, &status).await?;
    if let Some(announcement) = events::of(model.status.as_ref(), &status) {
        announce(model, &announcement, context).await;
    }
    context.unseen.wrote(model, status);
    Ok(if settled { PassOutcome::Settled } else { PassOutcome::Waiting })
}

async fn announce(model: &PredictorModel, announcement: &Announcement, context: &Context) {
    match context.cluster.publish(model, announcement).await {
        Ok(()) => {}
        // No Event is made in such a namespace, and the model is about to go too.
        Err(error) if error.is_as_namespace_goes() || error.is_not_found() => {
            tracing::debug!(%error, "an Event was lost");
        }
        Err(error) => tracing::warn!(%error, "an Event was lost"),
    }
}

/// Statuses that were written and that the watch has not shown yet: without them a second pass would say, and
/// announce, the same again.
#[derive(Debug, Default)]
pub struct Unseen(Mutex<HashMap<String, Written>>);

#[derive(Debug)]
struct Written {
    /// The version of the model that the status was written for.
    upon: Option<String>,
    status: PredictorModelStatus,
}

impl Unseen {
    fn bring_up_to_date(&self, model: &PredictorModel) -> PredictorModel {
        let mut model = model.clone();
        let uid = model.uid().unwrap_or_default();
        let mut written = self.all();
        match written.get(&uid) {
            Some(Written { upon, status }) if *upon == model.resource_version() => {
                model.status = Some(status.clone());
            }
            Some(_) => drop(written.remove(&uid)),
            None => {}
        }
        model
    }

    fn wrote(&self, model: &PredictorModel, status: PredictorModelStatus) {
        if model.status.as_ref() != Some(&status) {
            let written = Written { upon: model.resource_version(), status };
            let uid = model.uid().unwrap_or_default();
            self.all().insert(uid, written);
        }
    }

    fn len(&self) -> usize {
        self.all().len()
    }

    fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|uid, _| is_there(uid));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
