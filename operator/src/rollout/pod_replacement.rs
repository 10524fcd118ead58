//! Replacement of pods that will never become ready.
//!
//! A pod prepares once. If `prepare` refused although the revision has served, or the self-test of the artifact
//! failed, the pod stays as it is even if the cause is gone, for example because a file was restored. The Deployment
//! is scaled down by one, which removes a pod that is not ready, and then up again. Delays grow with the time for
//! which the model has not been ready.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::pod::diagnosis::{Step, Stuck};
use crate::rollout::refusal_policy::until;
use crate::rollout::revisions::{Rollout, is_refused, was_ever_ready};
use crate::spec::DesiredState;
use crate::state::{ObservedRevision, ObservedState};

const PAUSE_MIN: SignedDuration = SignedDuration::from_secs(30);
/// A restored file is noticed within this time.
const PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// Each retry after a failed self-test costs a training.
const PAUSE_MAX_AFTER_SELF_TEST: SignedDuration = SignedDuration::from_hours(1);

/// Reduces the replicas of each revision by the number of pods to replace now. Only the serving and the target
/// revision are scaled up again, so others are left alone.
#[must_use]
pub fn replace_stuck_pods(
    mut rollout: Rollout,
    desired: &DesiredState,
    observed: &ObservedState,
    now: Timestamp,
) -> Rollout {
    let target = desired.target.as_ref().ok().map(|target| &target.revision);
    let permanent = [rollout.serving.as_ref(), target].map(Option::<&String>::cloned);
    for (revision, replicas) in &mut rollout.retained {
        if !permanent.iter().flatten().any(|permanent| permanent == revision) {
            continue;
        }
        let Some(seen) = observed.revisions.get(revision) else { continue };
        let due = replacement_times(observed, revision, seen).filter(|end| *end <= now).count();
        if due > 0 {
            let remaining = i32::try_from(seen.pods.len().saturating_sub(due)).unwrap_or(i32::MAX);
            *replicas = remaining.min(*replicas);
        }
    }
    rollout
}

/// Time until the next pod is replaced.
pub fn requeue_after(observed: &ObservedState, now: Timestamp) -> Option<Duration> {
    let replacement_times =
        observed.revisions.iter().flat_map(|(revision, seen)| replacement_times(observed, revision, seen));
    replacement_times.filter(|end| *end > now).min().map(|end| until(end, now))
}

/// When to replace each pod that will never become ready.
fn replacement_times(
    observed: &ObservedState,
    revision: &str,
    seen: &ObservedRevision,
) -> impl Iterator<Item = Timestamp> {
    let is_refused = is_refused(observed, revision);
    // The cause that refused a first revision would refuse its next pod too.
    let is_permanent_failure = is_refused || !was_ever_ready(observed, revision);
    let unready_since = observed.previous_status.unready_since;
    let stuck = seen.pods.iter().filter(|pod| !pod.ready).filter_map(|pod| pod.stuck);
    let replaceable = stuck.filter(move |stuck| match stuck.by {
        Step::Prepare => !is_permanent_failure,
        Step::Serve => !is_refused,
    });
    replaceable.map(move |Stuck { by, since }| {
        let longest = match by {
            Step::Prepare => PAUSE_MAX,
            Step::Serve => PAUSE_MAX_AFTER_SELF_TEST,
        };
        let unready = unready_since.map_or(SignedDuration::ZERO, |start| since.duration_since(start));
        since.saturating_add(unready.clamp(PAUSE_MIN, longest)).unwrap_or(since)
    })
}
