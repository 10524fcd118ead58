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

use crate::reason::{Diagnosis, Reason};
use crate::rollout::revisions::{is_refused, remaining, was_ever_ready};
use crate::spec::{DesiredState, Target};
use crate::state::{ObservedPod, ObservedState};

/// After how long a revision whose training took too long is tried again for the first time; then twice as long each
/// time.
const RETRY_FIRST: SignedDuration = SignedDuration::from_mins(2);
const RETRY_LAST: SignedDuration = SignedDuration::from_hours(1);

/// The refusal of the target. `before` is the one in the status that was written last.
pub fn refusal(
    desired: &DesiredState,
    observed: &ObservedState,
    before: Option<&RefusedRevision>,
    now: Timestamp,
) -> Option<RefusedRevision> {
    // Without a target it is not known what the spec asks for.
    let Ok(target) = &desired.target else { return before.cloned() };
    let before = before.filter(|before| before.revision == target.revision);
    if is_refused(observed, &target.revision) {
        return before.cloned();
    }
    if was_ever_ready(observed, &target.revision) {
        return None;
    }
    let refused = |Diagnosis { reason, message }| RefusedRevision {
        revision: target.revision.clone(),
        reason: reason.as_str().to_owned(),
        message,
        ..RefusedRevision::default()
    };
    let reported = reported_refusal(desired, observed).map(refused);
    let overdue_refusal = || {
        let deadline_seconds = u32::try_from(target.deadline.as_secs()).ok();
        let refused_for_time =
            RefusedRevision { deadline_seconds, ..refused(overdue(desired, observed, now)?) };
        Some(with_retry(refused_for_time, before, now))
    };
    // An attempt that is under way counts those before it.
    reported.or_else(overdue_refusal).or_else(|| before.cloned())
}

/// Whether a refusal holds, or its revision is being tried again.
pub fn is_in_force(refused: &RefusedRevision, now: Timestamp) -> bool {
    match &refused.retry_after {
        Some(Time(retry)) => *retry > now,
        // Earlier operators never tried such a revision again.
        None => refused.reason != Reason::DeadlineExceeded.as_str(),
    }
}

/// How long until the target is refused, or tried again, for its time though nothing else happened.
pub fn requeue_after(desired: &DesiredState, observed: &ObservedState, now: Timestamp) -> Option<Duration> {
    let retry = observed.previous_status.retry_after.map(|retry| until(retry, now));
    let target = undecided_target(desired, observed);
    let refused_for_time = target
        .and_then(|target| deadline(pods(observed, target), target, now))
        .map(|(_, remaining)| remaining);
    [retry, refused_for_time].into_iter().flatten().min()
}

/// How long until a time.
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

fn reported_refusal(desired: &DesiredState, observed: &ObservedState) -> Option<Diagnosis> {
    pods(observed, undecided_target(desired, observed)?).iter().find_map(|pod| match &pod.report {
        Some(Report::Refused(refusal)) => {
            Some(Diagnosis::new(Reason::from_refusal_code(&refusal.code), refusal.message.clone()))
        }
        Some(Report::Prepared(_) | Report::Failed(_)) | None => None,
    })
}

fn overdue(desired: &DesiredState, observed: &ObservedState, now: Timestamp) -> Option<Diagnosis> {
    let target = undecided_target(desired, observed)?;
    let (pod, remaining) = deadline(pods(observed, target), target, now)?;
    remaining.is_zero().then(|| deadline_exceeded(pod, target))
}

/// What is told of a pod that trains for longer than it may.
pub fn deadline_exceeded(pod: &str, target: &Target) -> Diagnosis {
    let seconds = target.deadline.as_secs();
    let message = format!(
        "pod {pod} did not finish training within {seconds} s: raise spec.train.deadlineSeconds or \
         spec.train.resources, or train on less"
    );
    Diagnosis::new(Reason::DeadlineExceeded, message)
}

fn with_retry(refused: RefusedRevision, before: Option<&RefusedRevision>, now: Timestamp) -> RefusedRevision {
    let attempts = before.and_then(|before| before.attempts).unwrap_or(0).saturating_add(1);
    let doubled = u32::try_from(attempts - 1).ok().and_then(|times| 2_i32.checked_pow(times));
    let pause = doubled.map_or(RETRY_LAST, |times| (RETRY_FIRST * times).min(RETRY_LAST));
    let retry = now.saturating_add(pause).unwrap_or(now);
    let retry = Timestamp::from_second(retry.as_second()).unwrap_or(retry);
    let message = format!("{}. Attempt {attempts}; the next is at {retry}", refused.message);
    RefusedRevision { attempts: Some(attempts), retry_after: Some(Time(retry)), message, ..refused }
}

fn undecided_target<'a>(desired: &'a DesiredState, observed: &ObservedState) -> Option<&'a Target> {
    let target = desired.target.as_ref().ok()?;
    let decided = is_refused(observed, &target.revision) || was_ever_ready(observed, &target.revision);
    (!decided).then_some(target)
}

fn pods<'a>(observed: &'a ObservedState, target: &Target) -> &'a [ObservedPod] {
    observed.revisions.get(&target.revision).map_or(&[], |seen| &seen.pods)
}

fn deadline<'a>(pods: &'a [ObservedPod], target: &Target, now: Timestamp) -> Option<(&'a str, Duration)> {
    let running = pods.iter().filter_map(|pod| Some((pod, pod.preparing_since?)));
    let remaining = running.map(|(pod, since)| (pod.name.as_str(), remaining(since, target.deadline, now)));
    remaining.min_by_key(|(_, remaining)| *remaining)
}
