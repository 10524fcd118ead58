//! The change of revision: which one serves, how many pods each has, and which go.
//!
//! Comes in: a plan, what is there, the time. Goes out: a decision that is the same however often it is taken, and
//! whoever took the one before. Never: a memory of its own; what must outlive this process stands in one Service,
//! beside the selector that it belongs to, and in the model's status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::revision::retirement::Retired;
use crate::spec::Plan;
use crate::state::{DeploymentSeen, Observed, RevisionSeen};

/// Which revision serves, and what becomes of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The revision that the Services are to select.
    pub serving: Option<String>,
    /// The revisions that stay, with the number of their pods.
    pub stays: BTreeMap<String, i32>,
    /// Those that served before.
    pub retired: Retired,
    /// The revisions of which nothing is to be left.
    pub goes: BTreeSet<String>,
}

impl Rollout {
    /// Decides.
    pub fn new(plan: &Plan, observed: &Observed, now: Timestamp) -> Self {
        let target = target(plan);
        let before = serving_before(observed);
        let serving = serving(plan, observed, before);
        let mut rollout = Self { serving: serving.map(str::to_owned), ..Self::default() };

        let all = observed.revisions.keys().map(String::as_str).chain(serving).chain(target);
        for revision in all.collect::<BTreeSet<_>>() {
            let served = before == Some(revision) && has_served(observed, revision);
            let since = observed.retired.get(revision).copied().or_else(|| served.then_some(now));
            let retires = since.filter(|_| serving != Some(revision));
            let replicas = if serving == Some(revision) {
                Some(replicas_of_serving(plan, observed, revision))
            } else if target == Some(revision) {
                Some(replicas_of_candidate(plan, observed, revision))
            } else {
                replicas_of_other(
                    plan,
                    observed,
                    revision,
                    retires.map(|since| left(since, plan.retire, now)),
                )
            };
            let Some(replicas) = replicas else {
                rollout.goes.insert(revision.to_owned());
                continue;
            };
            rollout.stays.insert(revision.to_owned(), replicas);
            rollout.retired.extend(retires.map(|since| (revision.to_owned(), since)));
        }
        rollout
    }

    /// The decision to leave everything as it is.
    pub fn untouched(observed: &Observed) -> Self {
        Self { serving: serving_before(observed).map(str::to_owned), ..Self::default() }
    }

    /// How long until a decision would be another though nothing happened: a revision's time is up.
    pub fn next(&self, plan: &Plan, now: Timestamp) -> Option<Duration> {
        let left = self.retired.values().map(|since| left(*since, plan.retire, now));
        // One that is wanted again stays though its time is up.
        left.filter(|left| !left.is_zero()).min()
    }
}

/// How much of `time` is left of what began at `since`.
pub fn left(since: Timestamp, time: Duration, now: Timestamp) -> Duration {
    time.saturating_sub(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

/// Whether this revision was refused, so that it must not be tried again.
pub fn is_refused(observed: &Observed, revision: &str) -> bool {
    observed.remembered.refused.as_deref() == Some(revision)
}

/// Whether a pod of this revision has ever been good enough to serve: then another one will be.
pub fn is_proven(observed: &Observed, revision: &str) -> bool {
    let remembered = &observed.remembered;
    // More than one pod is only made after the first was ready.
    deployment(observed, revision).is_some_and(|deployment| deployment.ready > 0 || deployment.wanted > 1)
        || (remembered.prepared && remembered.revision.as_deref() == Some(revision))
}

fn target(plan: &Plan) -> Option<&str> {
    plan.target.as_ref().ok().map(|target| target.revision.as_str())
}

/// The revision that serves until now: the one that is selected, or, where somebody deleted the Services, the one
/// that was when the status was written.
fn serving_before(observed: &Observed) -> Option<&str> {
    let remembered = || observed.remembered.revision.as_deref();
    let is_left =
        |revision: &&str| observed.revisions.get(*revision).is_some_and(RevisionSeen::can_be_restored);
    observed.selected.as_deref().or_else(remembered).filter(is_left)
}

fn serving<'a>(plan: &'a Plan, observed: &Observed, before: Option<&'a str>) -> Option<&'a str> {
    let Some(target) = target(plan) else { return before };
    let stays = |before: &&str| {
        *before != target
            && plan.replicas > 0
            && has_served(observed, before)
            && !is_up(plan, observed, target)
    };
    before.filter(stays).or(Some(target))
}

/// Whether there is anything to lose with a revision: one that was refused or never got ready answers nobody.
fn has_served(observed: &Observed, revision: &str) -> bool {
    is_proven(observed, revision) && !is_refused(observed, revision)
}

/// Whether all the pods that there should be are ready.
fn is_up(plan: &Plan, observed: &Observed, revision: &str) -> bool {
    deployment(observed, revision).is_some_and(|deployment| {
        deployment.is_current && deployment.wanted == plan.replicas && deployment.ready >= plan.replicas
    })
}

fn replicas_of_serving(plan: &Plan, observed: &Observed, revision: &str) -> i32 {
    if is_proven(observed, revision) {
        plan.replicas
    } else if is_refused(observed, revision) {
        0
    } else {
        plan.replicas.min(1)
    }
}

/// First one pod, which prepares; where that one serves, as many as the revision that it is to replace.
fn replicas_of_candidate(plan: &Plan, observed: &Observed, revision: &str) -> i32 {
    if is_refused(observed, revision) {
        0
    } else if is_proven(observed, revision) {
        plan.replicas
    } else {
        1
    }
}

/// As many as it has, or nothing where it is to go.
fn replicas_of_other(
    plan: &Plan,
    observed: &Observed,
    revision: &str,
    left: Option<Duration>,
) -> Option<i32> {
    let has = deployment(observed, revision)?.wanted;
    // Without a target nobody knows whether this is the candidate, whose time would come again.
    let stays = left.map_or(plan.target.is_err(), |left| !left.is_zero());
    stays.then_some(has)
}

fn deployment<'a>(observed: &'a Observed, revision: &str) -> Option<&'a DeploymentSeen> {
    observed.revisions.get(revision).and_then(|seen| seen.deployment.as_ref())
}
