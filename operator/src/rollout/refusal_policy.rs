//! Whether the target revision is refused, by the reports of its pods or by its training deadline.
//!
//! A revision that was ever ready is not refused, so that one pod cannot take down the others. A refusal for the
//! deadline, which depends on the load of the node, is temporary.

use std::time::Duration;

use canopy_contract::report::Report;
use canopy_resource::status::RefusedRevision;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::reason::{Diagnosis, Reason};
use crate::rollout::revisions::{is_refused, remaining, was_ever_ready};
use crate::spec::{DesiredState, Target};
use crate::state::{ObservedPod, ObservedState};

/// Delay before the first retry after an exceeded training deadline; it doubles with each attempt.
const RETRY_FIRST: SignedDuration = SignedDuration::from_mins(2);
const RETRY_LAST: SignedDuration = SignedDuration::from_hours(1);

/// The refusal of the target. `before` is the refusal in the previous status.
pub fn refusal(
    desired: &DesiredState,
    observed: &ObservedState,
    before: Option<&RefusedRevision>,
    now: Timestamp,
) -> Option<RefusedRevision> {
    // Without a target it is unknown which revision the spec asks for.
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
    // During a retry the count of earlier attempts is kept.
    reported.or_else(overdue_refusal).or_else(|| before.cloned())
}

/// Whether a refusal is in force, or its revision is being retried.
pub fn is_in_force(refused: &RefusedRevision, now: Timestamp) -> bool {
    match &refused.retry_after {
        Some(Time(retry)) => *retry > now,
        // Earlier versions never retried an exceeded deadline.
        None => refused.reason != Reason::DeadlineExceeded.as_str(),
    }
}

/// Time until the target is refused or retried.
pub fn requeue_after(desired: &DesiredState, observed: &ObservedState, now: Timestamp) -> Option<Duration> {
    let retry = observed.previous_status.retry_after.map(|retry| until(retry, now));
    let target = undecided_target(desired, observed);
    let refused_for_time = target
        .and_then(|target| deadline(pods(observed, target), target, now))
        .map(|(_, remaining)| remaining);
    [retry, refused_for_time].into_iter().flatten().min()
}

/// Time until `time`, or zero if it has passed.
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

/// The diagnosis of a pod that exceeded the training deadline.
pub fn deadline_exceeded(pod: &str, target: &Target) -> Diagnosis {
    let seconds = target.deadline.as_secs();
    let message = if target.config.train.is_some() {
        format!(
            "pod {pod} did not finish training within {seconds} s: raise spec.train.deadlineSeconds or \
             spec.train.resources, or reduce the training data"
        )
    } else {
        format!(
            "pod {pod} did not read the model file within {seconds} s: raise spec.resources, or reduce the file or the \
             evaluation data"
        )
    };
    Diagnosis::new(Reason::DeadlineExceeded, message)
}

fn with_retry(refused: RefusedRevision, before: Option<&RefusedRevision>, now: Timestamp) -> RefusedRevision {
    let attempts = before.and_then(|before| before.attempts).unwrap_or(0).saturating_add(1);
    let doubled = u32::try_from(attempts - 1).ok().and_then(|times| 2_i32.checked_pow(times));
    let pause = doubled.map_or(RETRY_LAST, |times| (RETRY_FIRST * times).min(RETRY_LAST));
    let retry = now.saturating_add(pause).unwrap_or(now);
    let retry = Timestamp::from_second(retry.as_second()).unwrap_or(retry);
    let message = format!("{} (attempt {attempts}, next retry at {retry})", refused.message);
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
