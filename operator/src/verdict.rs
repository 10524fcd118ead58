//! Whether the revision that the spec asks for is refused.
//!
//! Comes in: a plan, the reports of pods, the time. Goes out: a refusal, once; after that it stands in the status.
//! Never: a refusal of what has served; one pod's word does not take down the others.

use std::time::Duration;

use canopy_contract::report::Report;
use jiff::Timestamp;

use crate::observed::{Observed, PodSeen};
use crate::plan::{Plan, Target};
use crate::reason::{Reason, Trouble};
use crate::rollout::{is_proven, is_refused, left};

/// Why the target is refused by what its pods say now.
pub fn refusal(plan: &Plan, observed: &Observed, now: Timestamp) -> Option<Trouble> {
    let target = undecided(plan, observed)?;
    let pods = pods(observed, target);
    let refused = pods.iter().find_map(|pod| match &pod.report {
        Some(Report::Refused(refusal)) => {
            Some(Trouble::new(Reason::of_refusal(&refusal.code), refusal.message.clone()))
        }
        Some(Report::Prepared(_) | Report::Failed(_)) | None => None,
    });
    refused.or_else(|| {
        let (pod, left) = deadline(pods, target, now)?;
        left.is_zero().then(|| {
            let seconds = target.deadline.as_secs();
            let message = format!(
                "pod {pod} did not finish training within {seconds} s: raise spec.train.deadlineSeconds or \
                 spec.train.resources, or train on less"
            );
            Trouble::new(Reason::DeadlineExceeded, message)
        })
    })
}

/// How long until the target is refused for its time though nothing else happened.
pub fn next(plan: &Plan, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let target = undecided(plan, observed)?;
    deadline(pods(observed, target), target, now).map(|(_, left)| left)
}

fn undecided<'a>(plan: &'a Plan, observed: &Observed) -> Option<&'a Target> {
    let target = plan.target.as_ref().ok()?;
    let decided = is_refused(observed, &target.revision) || is_proven(observed, &target.revision);
    (!decided).then_some(target)
}

fn pods<'a>(observed: &'a Observed, target: &Target) -> &'a [PodSeen] {
    observed.revisions.get(&target.revision).map_or(&[], |seen| &seen.pods)
}

fn deadline<'a>(pods: &'a [PodSeen], target: &Target, now: Timestamp) -> Option<(&'a str, Duration)> {
    let running = pods.iter().filter_map(|pod| Some((pod, pod.preparing_since?)));
    let left = running.map(|(pod, since)| (pod.name.as_str(), left(since, target.deadline, now)));
    left.min_by_key(|(_, left)| *left)
}
