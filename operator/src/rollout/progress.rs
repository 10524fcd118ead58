//! Pods that are neither ready nor in any trouble that Kubernetes names, for too long.

use std::time::Duration;

use jiff::Timestamp;

use crate::reason::{Reason, Trouble};
use crate::rollout::refusal_policy::too_slow;
use crate::rollout::revisions::left;
use crate::spec::{Plan, Target};
use crate::state::{Observed, PodSeen};

/// Within this a pod that does not train takes a step: as a Deployment has it.
const PATIENCE: Duration = Duration::from_mins(10);

/// What is wrong with the target's pods, by the time alone.
pub fn trouble(plan: &Plan, observed: &Observed, now: Timestamp) -> Option<Trouble> {
    let target = plan.target.as_ref().ok()?;
    let late = waits(observed, target, now).find(|(_, left)| left.is_zero()).map(|(pod, _)| {
        if pod.preparing_since.is_some() {
            return too_slow(&pod.name, target);
        }
        let PodSeen { name, .. } = pod;
        let minutes = PATIENCE.as_secs() / 60;
        let message = format!(
            "pod {name} is not ready and has taken no step for {minutes} minutes: see kubectl describe pod {name} \
             and its log"
        );
        Trouble::new(Reason::PodsNotReady, message)
    });
    late.or_else(|| stalled(plan, observed, target))
}

/// How long until a pod has waited for too long.
pub fn next(plan: &Plan, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let target = plan.target.as_ref().ok()?;
    waits(observed, target, now).map(|(_, left)| left).filter(|left| !left.is_zero()).min()
}

/// The target's pods that are not ready, and how much longer each may take for its step.
fn waits<'a>(
    observed: &'a Observed,
    target: &'a Target,
    now: Timestamp,
) -> impl Iterator<Item = (&'a PodSeen, Duration)> {
    let pods = observed.revisions.get(&target.revision).map_or(&[][..], |seen| &seen.pods);
    pods.iter().filter(|pod| !pod.ready).filter_map(move |pod| match pod.preparing_since {
        Some(since) => Some((pod, left(since, target.deadline, now))),
        None => Some((pod, left(pod.last_step?, PATIENCE, now))),
    })
}

/// What the Deployment controller says, where no pod is there that might say more.
fn stalled(plan: &Plan, observed: &Observed, target: &Target) -> Option<Trouble> {
    let seen = observed.revisions.get(&target.revision)?;
    let deployment = seen.deployment.as_ref()?;
    let why = deployment.stalled.as_ref().filter(|_| deployment.ready < deployment.wanted)?;
    let name = plan.name.revision_object(&target.revision);
    seen.pods
        .iter()
        .all(|pod| pod.ready)
        .then(|| Trouble::new(Reason::PodsNotReady, format!("Deployment {name} makes no progress: {why}")))
}
