//! The rollout of revisions: which one serves, the replicas of each, and which are deleted.
//!
//! The decision depends only on desired state, observed state and time, so any operator can continue it. What must
//! survive a restart is stored in the Service, beside the selector it belongs to, and in the status of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::revision::retirement::Retired;
use crate::spec::DesiredState;
use crate::state::{ObservedDeployment, ObservedRevision, ObservedState};

/// The decision: the serving revision, and the replicas of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The revision that the Services select.
    pub serving: Option<String>,
    /// Revisions that are kept, with their replicas.
    pub retained: BTreeMap<String, i32>,
    /// Revisions that served before, with the time each stopped serving.
    pub retired: Retired,
    /// Revisions to delete.
    pub removed: BTreeSet<String>,
}

impl Rollout {
    /// Decides from the desired and the observed state.
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

    /// The decision that changes nothing.
    pub fn unchanged(observed: &ObservedState) -> Self {
        Self { serving: previously_serving(observed).map(str::to_owned), ..Self::default() }
    }

    /// Time until a retired revision is to be deleted.
    pub fn requeue_after(&self, desired: &DesiredState, now: Timestamp) -> Option<Duration> {
        let remaining = self.retired.values().map(|since| remaining(*since, desired.retire, now));
        // A retired revision that is the target again is kept beyond its time.
        remaining.filter(|remaining| !remaining.is_zero()).min()
    }
}

/// The remaining part of a period that started at `since`.
pub fn remaining(since: Timestamp, time: Duration, now: Timestamp) -> Duration {
    time.saturating_sub(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

/// Whether this revision was refused and must not be retried.
pub fn is_refused(observed: &ObservedState, revision: &str) -> bool {
    observed.previous_status.refused.as_deref() == Some(revision)
}

/// Whether a pod of this revision was ever ready. Then its preparation is known to succeed.
pub fn was_ever_ready(observed: &ObservedState, revision: &str) -> bool {
    let previous_status = &observed.previous_status;
    // More than one pod is only created after the first was ready.
    deployment(observed, revision)
        .is_some_and(|deployment| deployment.ready > 0 || deployment.desired_replicas > 1)
        || (previous_status.prepared && previous_status.revision.as_deref() == Some(revision))
}

fn target(desired: &DesiredState) -> Option<&str> {
    desired.target.as_ref().ok().map(|target| target.revision.as_str())
}

/// The revision that has served so far: the selected one or, if the Services were deleted, the one in the status.
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

/// Whether the revision has served: it was ready once and is not refused.
fn has_served(observed: &ObservedState, revision: &str) -> bool {
    was_ever_ready(observed, revision) && !is_refused(observed, revision)
}

/// Whether all desired replicas are ready.
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

/// One pod at first, which prepares. Once it is ready, as many as the serving revision should have.
fn replicas_of_candidate(desired: &DesiredState, observed: &ObservedState, revision: &str) -> i32 {
    if is_refused(observed, revision) {
        0
    } else if was_ever_ready(observed, revision) {
        desired.replicas
    } else {
        1
    }
}

/// The present number of replicas, or `None` if the revision is to be deleted.
fn replicas_of_other(
    desired: &DesiredState,
    observed: &ObservedState,
    revision: &str,
    remaining: Option<Duration>,
) -> Option<i32> {
    let has = deployment(observed, revision)?.desired_replicas;
    // Without a target this may be a candidate that is wanted again once the spec is valid.
    let retained = remaining.map_or(desired.target.is_err(), |remaining| !remaining.is_zero());
    retained.then_some(has)
}

fn deployment<'a>(observed: &'a ObservedState, revision: &str) -> Option<&'a ObservedDeployment> {
    observed.revisions.get(revision).and_then(|seen| seen.deployment.as_ref())
}
