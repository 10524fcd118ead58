//! Which pods are replaced because they will never be ready.
//!
//! A pod prepares once. One whose preparation refused though its revision has served, or whose artifact failed its
//! proof, stays as it is while the cause may be gone: a file that was put back, another node. Its Deployment is given
//! one pod fewer than it has, and Kubernetes takes one that is not ready; then it has as many as before. The pauses
//! grow with the time for which the model has not been ready, which stands in its status.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::pod::diagnosis::{Step, Stuck};
use crate::rollout::refusal_policy::until;
use crate::rollout::revisions::{Rollout, is_refused, was_ever_ready};
use crate::spec::DesiredState;
use crate::state::{ObservedRevision, ObservedState};

const PAUSE_MIN: SignedDuration = SignedDuration::from_secs(30);
/// A file that was put back is noticed within this.
const PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// An artifact that fails its proof each time costs a training each time.
const PAUSE_MAX_AFTER_SELF_TEST: SignedDuration = SignedDuration::from_hours(1);

/// The decision with one pod fewer for each that is to be replaced now. A revision that only stays for a while keeps as
/// many as it has, so it would not get the pod back.
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

/// How long until a pod is replaced though nothing else happened.
pub fn requeue_after(observed: &ObservedState, now: Timestamp) -> Option<Duration> {
    let replacement_times =
        observed.revisions.iter().flat_map(|(revision, seen)| replacement_times(observed, revision, seen));
    replacement_times.filter(|end| *end > now).min().map(|end| until(end, now))
}

/// When each pod of a revision that will never be ready is replaced.
fn replacement_times(
    observed: &ObservedState,
    revision: &str,
    seen: &ObservedRevision,
) -> impl Iterator<Item = Timestamp> {
    let is_refused = is_refused(observed, revision);
    // What refused a first revision refuses it again.
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
