//! The four conditions of a model. `lastTransitionTime` changes only with the status of a condition.

use canopy_contract::describe::Quality;
use canopy_contract::report::Prepared;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource as _;

use crate::reason::{Diagnosis, Reason};
use crate::status::blockers::Blocker;
use crate::status::inputs::{ApplyOutcome, StatusInputs};

/// Some revision answers requests.
pub const AVAILABLE: &str = "Available";
/// The revision of this generation answers with all replicas.
pub const READY: &str = "Ready";
/// That revision is trained or read from its file, and passed its gate.
const PREPARED: &str = "Prepared";
/// A change is in progress.
const PROGRESSING: &str = "Progressing";

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

/// A condition without the fields common to all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConditionDraft {
    type_: &'static str,
    status: &'static str,
    diagnosis: Diagnosis,
}

/// All conditions of `model`.
pub fn all(
    inputs: &StatusInputs<'_>,
    blocker: Option<&Blocker>,
    model: &PredictorModel,
    now: Timestamp,
) -> Vec<Condition> {
    let before = model.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let drafts = [
        available(inputs, blocker),
        ready(inputs, blocker),
        prepared(inputs, blocker),
        progressing(inputs, blocker),
    ];
    let conditions = drafts.into_iter().map(|ConditionDraft { type_, status, diagnosis }| {
        let same = before.iter().find(|before| before.type_ == type_ && before.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: diagnosis.reason.as_str().to_owned(),
            message: diagnosis.message,
            observed_generation: model.meta().generation,
            // The API server stores whole seconds.
            last_transition_time: same
                .map_or_else(|| Time(whole_seconds(now)), |same| same.last_transition_time.clone()),
        }
    });
    conditions.collect()
}

/// The condition Ready of a status.
pub fn ready_of(status: &PredictorModelStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == READY)
}

/// Whether a condition of a status is True.
pub fn was_true(status: &PredictorModelStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == TRUE)
}

/// Whether a model matches its spec and nothing is in progress.
pub fn is_settled(status: &PredictorModelStatus) -> bool {
    let is_as_desired = |condition: &Condition| {
        let expected = if condition.type_ == PROGRESSING { FALSE } else { TRUE };
        condition.status == expected
    };
    status.conditions.iter().all(is_as_desired)
}

/// Truncates a time to whole seconds, as the API server does.
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn available(inputs: &StatusInputs<'_>, blocker: Option<&Blocker>) -> ConditionDraft {
    // While the Services are switched, the revision they still select answers.
    let candidates = [inputs.serving(), inputs.observed.selected.as_deref()];
    let is_routed = |revision: &&str| inputs.is_routed(revision) && inputs.is_reached(inputs.was_available);
    let mut routed = candidates.into_iter().flatten().filter(is_routed);
    let answering = routed.find_map(|revision| {
        inputs.deployment(revision).filter(|deployment| deployment.ready > 0).map(|found| (revision, found))
    });
    let (status, diagnosis) = match answering {
        Some((revision, deployment)) => {
            let message = format!(
                "revision {revision} answers with {} of {} pods",
                deployment.ready, deployment.desired_replicas
            );
            (
                TRUE,
                lost_data_copy(inputs, revision).unwrap_or_else(|| Diagnosis::new(Reason::Serving, message)),
            )
        }
        None => (FALSE, blocker_diagnosis(blocker)),
    };
    ConditionDraft { type_: AVAILABLE, status, diagnosis }
}

/// The diagnosis of a serving revision whose data `ConfigMap` is lost.
fn lost_data_copy(inputs: &StatusInputs<'_>, revision: &str) -> Option<Diagnosis> {
    let copy = inputs.desired.name.data_object(revision);
    let message = format!(
        "revision {revision} answers, but ConfigMap {copy} with its data or model file was deleted or replaced, and \
         the source no longer exists: replacement pods cannot start; restore the source, or change the spec to \
         another source"
    );
    inputs.observed.lost.contains(revision).then(|| Diagnosis::new(Reason::DataCopyLost, message))
}

fn ready(inputs: &StatusInputs<'_>, blocker: Option<&Blocker>) -> ConditionDraft {
    let (status, diagnosis) = match (blocker, inputs.serving()) {
        (None, Some(revision)) => {
            let message = format!("revision {revision} answers with all {} pods", inputs.desired.replicas);
            (TRUE, Diagnosis::new(Reason::Serving, message))
        }
        (Some(_), _) | (None, None) => (FALSE, blocker_diagnosis(blocker)),
    };
    ConditionDraft { type_: READY, status, diagnosis }
}

/// The diagnosis of the blocker. Without a blocker the model is ready, and the default is not used.
fn blocker_diagnosis(blocker: Option<&Blocker>) -> Diagnosis {
    blocker.map_or_else(
        || Diagnosis::new(Reason::Starting, "no revision serves yet"),
        |blocker| blocker.diagnosis().clone(),
    )
}

fn prepared(inputs: &StatusInputs<'_>, blocker: Option<&Blocker>) -> ConditionDraft {
    let revision = inputs.target().map(|target| target.revision.as_str());
    let report = revision.and_then(|revision| inputs.prepared(revision));
    let (status, diagnosis) = match (revision, report, blocker) {
        (Some(revision), Some(report), _) if inputs.refused.is_none() => {
            (TRUE, prepared_diagnosis(inputs, revision, report))
        }
        (Some(revision), None, _) if was_prepared(inputs, revision) => {
            (TRUE, Diagnosis::new(Reason::Prepared, format!("revision {revision} was prepared before")))
        }
        // A lack of endpoints does not concern the training of this revision.
        (_, _, Some(Blocker::Failed(diagnosis)))
            if ![Reason::ScaledToZero, Reason::NoEndpoints].contains(&diagnosis.reason) =>
        {
            (FALSE, diagnosis.clone())
        }
        (Some(_) | None, Some(_) | None, Some(_) | None) => (UNKNOWN, blocker_diagnosis(blocker)),
    };
    ConditionDraft { type_: PREPARED, status, diagnosis }
}

fn was_prepared(inputs: &StatusInputs<'_>, revision: &str) -> bool {
    let previous_status = &inputs.observed.previous_status;
    previous_status.prepared && previous_status.revision.as_deref() == Some(revision)
}

fn prepared_diagnosis(inputs: &StatusInputs<'_>, revision: &str, report: &Prepared) -> Diagnosis {
    let digests = inputs.digests(revision);
    if digests.len() > 1 {
        let short =
            digests.iter().map(|digest| digest.get(..12).unwrap_or(digest)).collect::<Vec<_>>().join(", ");
        let message = format!(
            "pods of revision {revision} prepared different artifacts ({short}), for example because nodes have different \
             CPUs; check kubectl get pods -o wide"
        );
        return Diagnosis::new(Reason::ArtifactsDiffer, message);
    }
    let Prepared { digest: _, bytes, quality, samples, seconds, warnings: _ } = report;
    let is_trained = inputs.target().is_some_and(|target| target.config.train.is_some());
    let made =
        if is_trained { format!("trained on {samples} samples") } else { "read from its file".to_owned() };
    let quality = match quality {
        Some(Quality { metric, value, samples }) => format!("{metric:?} {value:.4} of {samples} samples"),
        None => "not evaluated".to_owned(),
    };
    let message = format!("revision {revision} was {made} in {seconds:.1} s ({bytes} bytes): {quality}");
    Diagnosis::new(Reason::Prepared, message)
}

fn progressing(inputs: &StatusInputs<'_>, blocker: Option<&Blocker>) -> ConditionDraft {
    let (status, diagnosis) = match blocker {
        _ if *inputs.outcome == ApplyOutcome::Paused => {
            let message = "spec.paused is true: nothing is changed until it is false";
            (FALSE, Diagnosis::new(Reason::Paused, message))
        }
        Some(Blocker::InProgress(diagnosis)) => (TRUE, diagnosis.clone()),
        Some(Blocker::Failed(diagnosis)) => (FALSE, diagnosis.clone()),
        None => match retiring(inputs) {
            Some(message) => (TRUE, Diagnosis::new(Reason::Retiring, message)),
            None => (FALSE, Diagnosis::new(Reason::Settled, "the rollout is complete")),
        },
    };
    ConditionDraft { type_: PROGRESSING, status, diagnosis }
}

fn retiring(inputs: &StatusInputs<'_>) -> Option<String> {
    let (revision, since) = inputs.rollout.retired.iter().max_by_key(|(_, since)| **since)?;
    let end = since.checked_add(inputs.desired.retire).unwrap_or(*since);
    Some(format!("revision {revision} was replaced and is kept until {end:.0}"))
}
