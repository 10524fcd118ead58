//! Whether the revision that the spec asks for is refused.
//!
//! Comes in: a plan, the reports of pods, the time. Goes out: a refusal, once; after that it stands in the status.
//! Never: a refusal of what has served; one pod's word does not take down the others. A refusal that the load of a node
//! may have caused is for a time only.

use std::time::Duration;

use canopy_contract::report::Report;
use canopy_resource::status::RefusedRevision;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::reason::{Reason, Trouble};
use crate::rollout::revisions::{is_proven, is_refused, left};
use crate::spec::{Plan, Target};
use crate::state::{Observed, PodSeen};

/// After how long a revision whose training took too long is tried again for the first time; then twice as long each
/// time.
const RETRY_FIRST: SignedDuration = SignedDuration::from_mins(2);
const RETRY_LAST: SignedDuration = SignedDuration::from_hours(1);

/// The refusal of the target. `before` is the one in the status that was written last.
pub fn refusal(
    plan: &Plan,
    observed: &Observed,
    before: Option<&RefusedRevision>,
    now: Timestamp,
) -> Option<RefusedRevision> {
    // Without a target it is not known what the spec asks for.
    let Ok(target) = &plan.target else { return before.cloned() };
    let before = before.filter(|before| before.revision == target.revision);
    if is_refused(observed, &target.revision) {
        return before.cloned();
    }
    if is_proven(observed, &target.revision) {
        return None;
    }
    let refused = |Trouble { reason, message }| RefusedRevision {
        revision: target.revision.clone(),
        reason: reason.as_str().to_owned(),
        message,
        ..RefusedRevision::default()
    };
    let by_pods = by_pods(plan, observed).map(refused);
    let by_time = || {
        let deadline_seconds = u32::try_from(target.deadline.as_secs()).ok();
        let late = RefusedRevision { deadline_seconds, ..refused(overdue(plan, observed, now)?) };
        Some(again_later(late, before, now))
    };
    // An attempt that is under way counts those before it.
    by_pods.or_else(by_time).or_else(|| before.cloned())
}

/// Whether a refusal holds, or its revision is being tried again.
pub fn holds(refused: &RefusedRevision, now: Timestamp) -> bool {
    match &refused.retry_after {
        Some(Time(retry)) => *retry > now,
        // Earlier operators never tried such a revision again.
        None => refused.reason != Reason::DeadlineExceeded.as_str(),
    }
}

/// How long until the target is refused, or tried again, for its time though nothing else happened.
pub fn next(plan: &Plan, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let retry = observed.remembered.retry_after.map(|retry| until(retry, now));
    let target = undecided(plan, observed);
    let late = target.and_then(|target| deadline(pods(observed, target), target, now)).map(|(_, left)| left);
    [retry, late].into_iter().flatten().min()
}

/// How long until a time.
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

fn by_pods(plan: &Plan, observed: &Observed) -> Option<Trouble> {
    pods(observed, undecided(plan, observed)?).iter().find_map(|pod| match &pod.report {
        Some(Report::Refused(refusal)) => {
            Some(Trouble::new(Reason::of_refusal(&refusal.code), refusal.message.clone()))
        }
        Some(Report::Prepared(_) | Report::Failed(_)) | None => None,
    })
}

fn overdue(plan: &Plan, observed: &Observed, now: Timestamp) -> Option<Trouble> {
    let target = undecided(plan, observed)?;
    let (pod, left) = deadline(pods(observed, target), target, now)?;
    left.is_zero().then(|| too_slow(pod, target))
}

/// What is told of a pod that trains for longer than it may.
pub fn too_slow(pod: &str, target: &Target) -> Trouble {
    let seconds = target.deadline.as_secs();
    let message = format!(
        "pod {pod} did not finish training within {seconds} s: raise spec.train.deadlineSeconds or \
         spec.train.resources, or train on less"
    );
    Trouble::new(Reason::DeadlineExceeded, message)
}

fn again_later(
    refused: RefusedRevision,
    before: Option<&RefusedRevision>,
    now: Timestamp,
) -> RefusedRevision {
    let attempts = before.and_then(|before| before.attempts).unwrap_or(0).saturating_add(1);
    let doubled = u32::try_from(attempts - 1).ok().and_then(|times| 2_i32.checked_pow(times));
    let pause = doubled.map_or(RETRY_LAST, |times| (RETRY_FIRST * times).min(RETRY_LAST));
    let retry = now.saturating_add(pause).unwrap_or(now);
    let retry = Timestamp::from_second(retry.as_second()).unwrap_or(retry);
    let message = format!("{}. Attempt {attempts}; the next is at {retry}", refused.message);
    RefusedRevision { attempts: Some(attempts), retry_after: Some(Time(retry)), message, ..refused }
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
