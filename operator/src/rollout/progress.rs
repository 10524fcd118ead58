//! Deadlines of pods that are not ready and for which Kubernetes reports no problem.

use std::time::Duration;

use jiff::Timestamp;

use crate::reason::{Diagnosis, Reason};
use crate::rollout::refusal_policy::deadline_exceeded;
use crate::rollout::revisions::remaining;
use crate::spec::{DesiredState, Target};
use crate::state::{ObservedPod, ObservedState};

/// Progress deadline of pods that are not training, as in a Deployment.
const PROGRESS_DEADLINE: Duration = Duration::from_mins(10);

/// The diagnosis of a target whose pods exceeded a deadline.
pub fn diagnose(desired: &DesiredState, observed: &ObservedState, now: Timestamp) -> Option<Diagnosis> {
    let target = desired.target.as_ref().ok()?;
    let late = waiting_pods(observed, target, now).find(|(_, remaining)| remaining.is_zero()).map(|(pod, _)| {
        if pod.preparing_since.is_some() {
            return deadline_exceeded(&pod.name, target);
        }
        let ObservedPod { name, .. } = pod;
        let minutes = PROGRESS_DEADLINE.as_secs() / 60;
        let message = format!(
            "pod {name} is not ready and has made no progress for {minutes} minutes; check kubectl describe pod \
             {name} and its log"
        );
        Diagnosis::new(Reason::PodsNotReady, message)
    });
    late.or_else(|| stalled(desired, observed, target))
}

/// Time until the next pod exceeds its deadline.
pub fn requeue_after(desired: &DesiredState, observed: &ObservedState, now: Timestamp) -> Option<Duration> {
    let target = desired.target.as_ref().ok()?;
    waiting_pods(observed, target, now)
        .map(|(_, remaining)| remaining)
        .filter(|remaining| !remaining.is_zero())
        .min()
}

/// Pods of the target that are not ready, with the remaining time of each.
fn waiting_pods<'a>(
    observed: &'a ObservedState,
    target: &'a Target,
    now: Timestamp,
) -> impl Iterator<Item = (&'a ObservedPod, Duration)> {
    let pods = observed.revisions.get(&target.revision).map_or(&[][..], |seen| &seen.pods);
    pods.iter().filter(|pod| !pod.ready).filter_map(move |pod| match pod.preparing_since {
        Some(since) => Some((pod, remaining(since, target.deadline, now))),
        None => Some((pod, remaining(pod.last_progress?, PROGRESS_DEADLINE, now))),
    })
}

/// The message of the Deployment controller, if no unready pod explains more.
fn stalled(desired: &DesiredState, observed: &ObservedState, target: &Target) -> Option<Diagnosis> {
    let seen = observed.revisions.get(&target.revision)?;
    let deployment = seen.deployment.as_ref()?;
    let why = deployment.stalled.as_ref().filter(|_| deployment.ready < deployment.desired_replicas)?;
    let name = desired.name.revision_object(&target.revision);
    seen.pods.iter().all(|pod| pod.ready).then(|| {
        Diagnosis::new(
            Reason::PodsNotReady,
            format!("Deployment {name} exceeded its progress deadline: {why}"),
        )
    })
}
