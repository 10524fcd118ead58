//! One pass over one model: decide, write, say what happened.
//!
//! Comes in: a model. Goes out: when to come back though nothing changes. Never: a question why it was called; it
//! starts from the beginning every time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use tracing::Instrument as _;

use crate::admitted::Whose;
use crate::announcement::{self, Announcement};
use crate::callers::Callers;
use crate::cluster::{ApplyError, CallError, Cluster};
use crate::desired::{Children, desired};
use crate::facts::Outcome;
use crate::frozen::Frozen;
use crate::known::Names;
use crate::labels::REVISION;
use crate::metrics::{Metrics, Pass, PassOutcome};
use crate::observed::{Objects, Observed, Remembered};
use crate::plan::Plan;
use crate::pod::Program;
use crate::rollout::Rollout;
use crate::sources::Sources;
use crate::status::{remembered, status};
use crate::stores::Stores;
use crate::{condition, progress, renewal, spans, verdict};

/// After how long to look again whether what hinders a model is gone: nobody tells when it is.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// After how long to try again what failed.
const TRY_AGAIN: Duration = Duration::from_secs(5);

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
}

/// One pass, now.
pub async fn reconcile(model: Arc<PredictorModel>, context: Arc<Context>) -> Result<Action, CallError> {
    // The future of a pass holds every child it may write: too large to be carried about.
    let next = Box::pin(pass(&model, &context, Timestamp::now())).await?;
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
    let model = context.unseen.bring_up_to_date(model);
    // Kubernetes removes the children of a model that goes; and no API server lets a wrong name in.
    let name = ModelName::try_from(model.name_any()).ok();
    let Some(name) = name.filter(|_| model.metadata.deletion_timestamp.is_none()) else {
        return Ok(nothing_to_do(pass));
    };
    let (plan, mut observed) = look(&model, &name, context, now).await?;
    let rollout = renewal::renew(Rollout::new(&plan, &observed, now), &plan, &observed, now);
    let outcome = if model.spec.paused == Some(true) {
        Outcome::Paused
    } else {
        let children = desired(&plan, &observed, &rollout, context.callers.as_ref());
        match Box::pin(write(&model, &plan, &mut observed, children, context)).await {
            Ok(()) => Outcome::Applied,
            Err(ApplyError::Hindered(trouble)) => Outcome::Hindered(trouble),
            // The model goes too, soon.
            Err(ApplyError::NamespaceGoes) => return Ok(nothing_to_do(pass)),
            Err(ApplyError::Call(error)) => return Err(error),
        }
    };
    let rollout = if outcome == Outcome::Applied { rollout } else { Rollout::untouched(&observed) };

    let status = status(&model, &plan, &observed, (&rollout, &outcome), now);
    let ended = report(&model, status, context).await?;
    spans::outcome(ended.as_str());
    pass.ended(ended);

    let hindered = matches!(outcome, Outcome::Hindered(_)).then_some(LOOK_AGAIN);
    let by_time = [
        rollout.next(&plan, now),
        verdict::next(&plan, &observed, now),
        progress::next(&plan, &observed, now),
        renewal::next(&observed, now),
    ];
    let next = by_time.into_iter().chain([hindered]);
    Ok(next.flatten().min())
}

/// Ends a pass that leaves everything as it is until something changes.
fn nothing_to_do(pass: Pass<'_>) -> Option<Duration> {
    spans::outcome(PassOutcome::Settled.as_str());
    pass.ended(PassOutcome::Settled);
    None
}

/// What happens where a call failed: it is tried again.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it so")]
pub fn failed(model: Arc<PredictorModel>, error: &CallError, _: Arc<Context>) -> Action {
    let (model, namespace) = (model.name_any(), model.namespace().unwrap_or_default());
    tracing::warn!(model, namespace, %error, "a pass over a model failed and is tried again");
    Action::requeue(TRY_AGAIN)
}

/// What the model asks for, and what there is of it.
async fn look(
    model: &PredictorModel,
    name: &ModelName,
    context: &Context,
    now: Timestamp,
) -> Result<(Plan, Observed), CallError> {
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
    let plan = plan(model, name, &names, context).await?;
    for (revision, adoptable) in context.cluster.adoptable(whose, &objects, &frozen).await? {
        let target = plan.target.as_ref().ok().filter(|target| target.revision == revision);
        match adoptable.freeze(target, Whose { revision: &revision, ..whose }) {
            Ok(adopted) => drop(frozen.insert(revision, adopted)),
            Err(why) => {
                tracing::warn!(model = %name, namespace, revision, why, "a Deployment cannot be adopted and is left as it is");
            }
        }
    }
    let observed = Observed::read(name, &objects, frozen, remembered);
    Ok((plan, observed))
}

fn names(frozen: &BTreeMap<String, Frozen>, objects: &Objects, remembered: &Remembered) -> Names {
    let there = objects.deployments.iter().filter_map(|deployment| deployment.labels().get(REVISION));
    Names::new(frozen, there.map(String::as_str), &[&remembered.revision, &remembered.refused])
}

/// What the model asks for. Its data are read where a copy of them must be made.
async fn plan(
    model: &PredictorModel,
    name: &ModelName,
    names: &Names,
    context: &Context,
) -> Result<Plan, CallError> {
    let program = &context.program;
    let meant = context.sources.meant(model, &context.cluster).await?;
    let plan = Plan::new((name.clone(), model), program, meant, names);
    if !context.cluster.lacks_data(&plan).await? {
        return Ok(plan);
    }
    context.sources.forget(model);
    let meant = context.sources.meant(model, &context.cluster).await?;
    Ok(Plan::new((name.clone(), model), program, meant, names))
}

/// Makes the children what they should be, and tells of what others did to them.
async fn write(
    model: &PredictorModel,
    plan: &Plan,
    observed: &mut Observed,
    children: Children,
    context: &Context,
) -> Result<(), ApplyError> {
    let kept = context.cluster.keep(plan, &children).await?;
    observed.lost = kept.lost;
    for repair in &kept.repairs {
        announce(model, &announcement::of_repair(&plan.namespace, repair), context).await;
    }
    for repair in &Box::pin(context.cluster.apply(plan, children)).await? {
        announce(model, &announcement::of_repair(&plan.namespace, repair), context).await;
    }
    Ok(())
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
    if let Err(error) = context.cluster.publish(model, announcement).await {
        tracing::warn!(%error, "an Event was lost");
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
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, written);
        }
    }
}
