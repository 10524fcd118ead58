//! The change of revision: which one serves, how many pods each has, and which go.
//!
//! Comes in: a plan, what is there, the time. Goes out: a decision that is the same however often it is taken, and
//! whoever took the one before. Never: a memory of its own; what must outlive this process stands in one Service,
//! beside the selector that it belongs to, and in the model's status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::revision::retirement::Retired;
use crate::spec::DesiredState;
use crate::state::{ObservedDeployment, ObservedRevision, ObservedState};

/// Which revision serves, and what becomes of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The revision that the Services are to select.
    pub serving: Option<String>,
    /// The revisions that stay, with the number of their pods.
    pub retained: BTreeMap<String, i32>,
    /// Those that served before.
    pub retired: Retired,
    /// The revisions of which nothing is to be left.
    pub removed: BTreeSet<String>,
}

impl Rollout {
    /// Decides.
    pub fn new(desired: &DesiredState, observed: &ObservedState, now: Timestamp) -> Self {
        let target = target(desired);
        let before = previously_serving(observed);
        let serving = serving(desired, observed, before);
        let mut rollout = Self { serving: serving.map(str::to_owned), ..Self::default() };

        let all = observed.revisions.keys().map(String::as_str).chain(serving).chain(target);
        for revision in all.collect::<BTreeSet<_>>() {
            let served = before == Some(revision) && has_served(observed, revision);
            let since = observed.retired.get(revision).copied().or_else(|| served.then_some(now));
            let retires = since.filter(|_| serving != Some(revision));
            let replicas = if serving == Some(revision) {
                Some(replicas_of_serving(desired, observed, revision))
            } else if target == Some(revision) {
                Some(replicas_of_candidate(desired, observed, revision))
            } else {
                replicas_of_other(
                    desired,
                    observed,
                    revision,
                    retires.map(|since| remaining(since, desired.retire, now)),
                )
            };
            let Some(replicas) = replicas else {
                rollout.removed.insert(revision.to_owned());
                continue;
            };
            rollout.retained.insert(revision.to_owned(), replicas);
            rollout.retired.extend(retires.map(|since| (revision.to_owned(), since)));
        }
        rollout
    }

    /// The decision to leave everything as it is.
    pub fn unchanged(observed: &ObservedState) -> Self {
        Self { serving: previously_serving(observed).map(str::to_owned), ..Self::default() }
    }

    /// How long until a decision would be another though nothing happened: a revision's time is up.
    pub fn requeue_after(&self, desired: &DesiredState, now: Timestamp) -> Option<Duration> {
        let remaining = self.retired.values().map(|since| remaining(*since, desired.retire, now));
        // One that is wanted again stays though its time is up.
        remaining.filter(|remaining| !remaining.is_zero()).min()
    }
}

/// How much of `time` is left of what began at `since`.
pub fn remaining(since: Timestamp, time: Duration, now: Timestamp) -> Duration {
    time.saturating_sub(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

/// Whether this revision was refused, so that it must not be tried again.
pub fn is_refused(observed: &ObservedState, revision: &str) -> bool {
    observed.previous_status.refused.as_deref() == Some(revision)
}

/// Whether a pod of this revision has ever been good enough to serve: then another one will be.
pub fn was_ever_ready(observed: &ObservedState, revision: &str) -> bool {
    let previous_status = &observed.previous_status;
    // More than one pod is only made after the first was ready.
    deployment(observed, revision)
        .is_some_and(|deployment| deployment.ready > 0 || deployment.desired_replicas > 1)
        || (previous_status.prepared && previous_status.revision.as_deref() == Some(revision))
}

fn target(desired: &DesiredState) -> Option<&str> {
    desired.target.as_ref().ok().map(|target| target.revision.as_str())
}

/// The revision that serves until now: the one that is selected, or, where somebody deleted the Services, the one
/// that was when the status was written.
fn previously_serving(observed: &ObservedState) -> Option<&str> {
    let previous_status = || observed.previous_status.revision.as_deref();
    let is_left =
        |revision: &&str| observed.revisions.get(*revision).is_some_and(ObservedRevision::can_be_restored);
    observed.selected.as_deref().or_else(previous_status).filter(is_left)
}

fn serving<'a>(
    desired: &'a DesiredState,
    observed: &ObservedState,
    before: Option<&'a str>,
) -> Option<&'a str> {
    let Some(target) = target(desired) else { return before };
    let retained = |before: &&str| {
        *before != target
            && desired.replicas > 0
            && has_served(observed, before)
            && !is_fully_ready(desired, observed, target)
    };
    before.filter(retained).or(Some(target))
}

/// Whether there is anything to lose with a revision: one that was refused or never got ready answers nobody.
fn has_served(observed: &ObservedState, revision: &str) -> bool {
    was_ever_ready(observed, revision) && !is_refused(observed, revision)
}

/// Whether all the pods that there should be are ready.
fn is_fully_ready(desired: &DesiredState, observed: &ObservedState, revision: &str) -> bool {
    deployment(observed, revision).is_some_and(|deployment| {
        deployment.is_current
            && deployment.desired_replicas == desired.replicas
            && deployment.ready >= desired.replicas
    })
}

fn replicas_of_serving(desired: &DesiredState, observed: &ObservedState, revision: &str) -> i32 {
    if was_ever_ready(observed, revision) {
        desired.replicas
    } else if is_refused(observed, revision) {
        0
    } else {
        desired.replicas.min(1)
    }
}

/// First one pod, which prepares; where that one serves, as many as the revision that it is to replace.
fn replicas_of_candidate(desired: &DesiredState, observed: &ObservedState, revision: &str) -> i32 {
    if is_refused(observed, revision) {
        0
    } else if was_ever_ready(observed, revision) {
        desired.replicas
    } else {
        1
    }
}

/// As many as it has, or nothing where it is to go.
fn replicas_of_other(
    desired: &DesiredState,
    observed: &ObservedState,
    revision: &str,
    remaining: Option<Duration>,
) -> Option<i32> {
    let has = deployment(observed, revision)?.desired_replicas;
    // Without a target nobody knows whether this is the candidate, whose time would come again.
    let retained = remaining.map_or(desired.target.is_err(), |remaining| !remaining.is_zero());
    retained.then_some(has)
}

fn deployment<'a>(observed: &'a ObservedState, revision: &str) -> Option<&'a ObservedDeployment> {
    observed.revisions.get(revision).and_then(|seen| seen.deployment.as_ref())
}
