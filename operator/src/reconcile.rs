//! One pass over one model: decide, write, say what happened.
//!
//! Comes in: a model. Goes out: when to come back though nothing changes. Never: a question why it was called; it
//! starts from the beginning every time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use canopy_resource::manifest::ConfigMaps;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::Instrument as _;

use crate::announcement::{self, Announcement};
use crate::apply::{Applied, apply};
use crate::backoff::{Backoff, Growth};
use crate::call::{ApplyError, CallError};
use crate::cluster::Cluster;
use crate::desired::desired;
use crate::facts::Outcome;
use crate::metrics::{Metrics, Pass, PassOutcome};
use crate::observed::Observed;
use crate::plan::Plan;
use crate::pod::Program;
use crate::rollout::Rollout;
use crate::status::{remembered, status};
use crate::stores::Stores;
use crate::{condition, spans, verdict};

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
    /// What the watches saw last.
    pub stores: Stores,
    /// Who writes.
    pub cluster: Cluster,
    /// What is measured.
    pub metrics: Metrics,
    /// Statuses that were written and that the watch has not shown yet.
    pub unseen: Unseen,
    /// Models whose passes fail.
    pub failures: Backoff,
}

impl Context {
    /// What passes need before the first.
    pub fn new(program: Program, stores: Stores, cluster: Cluster, metrics: Metrics) -> Self {
        Self {
            program,
            stores,
            cluster,
            metrics,
            unseen: Unseen::default(),
            failures: Backoff::new(FAILURES),
        }
    }

    /// Forgets what was known of models that are gone.
    fn forget(&self) {
        let models = self.stores.models.len();
        if self.unseen.len() > models || self.failures.len() > models {
            let there: HashSet<_> =
                self.stores.models.state().iter().filter_map(|model| model.uid()).collect();
            self.unseen.keep(|uid| there.contains(uid));
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
    let span = spans::pass(name.unwrap_or_default(), namespace.unwrap_or_default());
    let ended = decide_and_write(model, context, now).instrument(span.clone()).await;
    if let Err(error) = &ended {
        span.record("canopy.outcome", PassOutcome::Failed.as_str());
        spans::failed(&span, "api_server", error);
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
    let (data, unread) = read_data(&model, &context.cluster).await?;
    let mut plan = match Plan::new(&model, &context.program, &data) {
        Ok(plan) if model.metadata.deletion_timestamp.is_none() => plan,
        // Kubernetes removes the children of a model that goes; and no API server lets a wrong name in.
        Ok(_) | Err(_) => return Ok(nothing_to_do(pass)),
    };
    if let Some(error) = &unread {
        // What serves is maintained all the same.
        plan.target = Err(error.as_trouble());
    }

    let observed = Observed::read(&plan.name, &context.stores.of_model(&plan.uid), remembered(&model));
    let decided = Rollout::new(&plan, &observed, now);
    let mut applied = if model.spec.paused == Some(true) {
        Applied::default()
    } else {
        match Box::pin(apply(&context.cluster, &plan, desired(&plan, &observed, &decided))).await {
            Ok(applied) => applied,
            Err(ApplyError::Hindered(trouble)) => Applied { blocked: vec![trouble], ..Applied::default() },
            // The model goes too, soon.
            Err(ApplyError::NamespaceGoes) => return Ok(nothing_to_do(pass)),
            Err(ApplyError::Call(error)) => return Err(error),
        }
    };
    for repair in &applied.repairs {
        announce(&model, &announcement::of_repair(&plan.namespace, repair), context).await;
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
    spans::outcome(ended.as_str());
    pass.ended(ended);

    let is_hindered = is_unreadable || matches!(outcome, Outcome::Hindered(_));
    let hindered = is_hindered.then_some(LOOK_AGAIN);
    let next = [rollout.next(&plan, now), verdict::next(&plan, &observed, now), hindered, applied.again];
    Ok(next.into_iter().flatten().min())
}

/// Ends a pass that leaves everything as it is until something changes.
fn nothing_to_do(pass: Pass<'_>) -> Option<Duration> {
    spans::outcome(PassOutcome::Settled.as_str());
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

/// The user's `ConfigMap` that the model's data come from, or why it alone could not be read.
async fn read_data(
    model: &PredictorModel,
    cluster: &Cluster,
) -> Result<(ConfigMaps, Option<CallError>), CallError> {
    let mut data = ConfigMaps::default();
    let csv = model.spec.train.data.csv.as_ref();
    if let Some(source) = csv.and_then(|csv| csv.source.config_map.as_ref()) {
        match cluster.read_config_map(&model.namespace().unwrap_or_default(), &source.name).await {
            // One alone is never given twice.
            Ok(found) => drop(found.map(|found| data.add(found))),
            Err(error) if error.stops_all() => return Err(error),
            Err(error) => return Ok((data, Some(error))),
        }
    }
    Ok((data, None))
}

async fn report(
    model: &PredictorModel,
    status: PredictorModelStatus,
    context: &Context,
) -> Result<PassOutcome, CallError> {
    let settled = condition::is_settled(&status);
    context.cluster.report(model, &status).await?;
    if let Some(announcement) = announcement::of(model.status.as_ref(), &status) {
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
