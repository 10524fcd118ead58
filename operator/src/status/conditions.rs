//! The four conditions of a model.
//!
//! Comes in: the facts and the cause. Goes out: conditions, each with the generation it speaks of. Never: a new
//! time of transition for a status that stayed the same.

use canopy_contract::report::Prepared;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource as _;

use crate::reason::{Reason, Trouble};
use crate::status::blockers::Cause;
use crate::status::facts::{Facts, Outcome};

/// Whether any revision answers.
pub const AVAILABLE: &str = "Available";
/// Whether the revision of this generation answers with all its replicas.
pub const READY: &str = "Ready";
/// Whether that revision is trained and met its gate.
const PREPARED: &str = "Prepared";
/// Whether a change is under way.
const PROGRESSING: &str = "Progressing";

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

/// A condition without what all have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    type_: &'static str,
    status: &'static str,
    why: Trouble,
}

/// All conditions of `model`.
pub fn all(
    facts: &Facts<'_>,
    cause: Option<&Cause>,
    model: &PredictorModel,
    now: Timestamp,
) -> Vec<Condition> {
    let before = model.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let said =
        [available(facts, cause), ready(facts, cause), prepared(facts, cause), progressing(facts, cause)];
    let conditions = said.into_iter().map(|Said { type_, status, why }| {
        let same = before.iter().find(|before| before.type_ == type_ && before.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: why.reason.as_str().to_owned(),
            message: why.message,
            observed_generation: model.meta().generation,
            // The API server keeps whole seconds.
            last_transition_time: same
                .map_or_else(|| Time(whole_seconds(now)), |same| same.last_transition_time.clone()),
        }
    });
    conditions.collect()
}

/// The condition that says whether the model is ready.
pub fn ready_of(status: &PredictorModelStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == READY)
}

/// Whether a condition was True when a status was written.
pub fn was_true(status: &PredictorModelStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == TRUE)
}

/// Whether a model is as its spec asks, and nothing is left to do.
pub fn is_settled(status: &PredictorModelStatus) -> bool {
    let as_wished = |condition: &Condition| {
        let wished = if condition.type_ == PROGRESSING { FALSE } else { TRUE };
        condition.status == wished
    };
    status.conditions.iter().all(as_wished)
}

/// The API server keeps whole seconds.
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn available(facts: &Facts<'_>, cause: Option<&Cause>) -> Said {
    // While the Services are being changed, the revision that they still select answers.
    let candidates = [facts.serving(), facts.observed.selected.as_deref()];
    let is_routed = |revision: &&str| facts.is_routed(revision) && facts.is_reached(facts.was_available);
    let mut routed = candidates.into_iter().flatten().filter(is_routed);
    let answering = routed.find_map(|revision| {
        facts.deployment(revision).filter(|deployment| deployment.ready > 0).map(|found| (revision, found))
    });
    let (status, why) = match answering {
        Some((revision, deployment)) => {
            let message = format!(
                "revision {revision} answers with {} of {} pods",
                deployment.ready, deployment.wanted
            );
            (TRUE, lost(facts, revision).unwrap_or_else(|| Trouble::new(Reason::Serving, message)))
        }
        None => (FALSE, told(cause)),
    };
    Said { type_: AVAILABLE, status, why }
}

/// What answers only as long as its pods live.
fn lost(facts: &Facts<'_>, revision: &str) -> Option<Trouble> {
    let copy = facts.plan.name.data_object(revision);
    let message = format!(
        "revision {revision} answers, but ConfigMap {copy} with the copy of its data is gone or was exchanged, and the \
         data it was made with are no longer there: a pod that is replaced cannot be prepared again; restore the data, \
         or change the model to other data"
    );
    facts.observed.lost.contains(revision).then(|| Trouble::new(Reason::DataCopyLost, message))
}

fn ready(facts: &Facts<'_>, cause: Option<&Cause>) -> Said {
    let (status, why) = match (cause, facts.serving()) {
        (None, Some(revision)) => {
            let message = format!("revision {revision} answers with all {} pods", facts.plan.replicas);
            (TRUE, Trouble::new(Reason::Serving, message))
        }
        (Some(_), _) | (None, None) => (FALSE, told(cause)),
    };
    Said { type_: READY, status, why }
}

/// Where there is no cause the model is ready, and this is not asked.
fn told(cause: Option<&Cause>) -> Trouble {
    cause.map_or_else(
        || Trouble::new(Reason::Starting, "no revision serves yet"),
        |cause| cause.told().clone(),
    )
}

fn prepared(facts: &Facts<'_>, cause: Option<&Cause>) -> Said {
    let revision = facts.target().map(|target| target.revision.as_str());
    let report = revision.and_then(|revision| facts.prepared(revision));
    let (status, why) = match (revision, report, cause) {
        (Some(revision), Some(report), _) if facts.refused.is_none() => {
            (TRUE, preparation(facts, revision, report))
        }
        (Some(revision), None, _) if was_prepared(facts, revision) => {
            (TRUE, Trouble::new(Reason::Prepared, format!("revision {revision} was prepared before")))
        }
        // Why nothing serves may have nothing to do with how this revision was prepared.
        (_, _, Some(Cause::Fault(trouble)))
            if ![Reason::ScaledToZero, Reason::NoEndpoints].contains(&trouble.reason) =>
        {
            (FALSE, trouble.clone())
        }
        (Some(_) | None, Some(_) | None, Some(_) | None) => (UNKNOWN, told(cause)),
    };
    Said { type_: PREPARED, status, why }
}

fn was_prepared(facts: &Facts<'_>, revision: &str) -> bool {
    let remembered = &facts.observed.remembered;
    remembered.prepared && remembered.revision.as_deref() == Some(revision)
}

fn preparation(facts: &Facts<'_>, revision: &str, report: &Prepared) -> Trouble {
    let digests = facts.digests(revision);
    if digests.len() > 1 {
        let short =
            digests.iter().map(|digest| digest.get(..12).unwrap_or(digest)).collect::<Vec<_>>().join(", ");
        let message = format!(
            "pods of revision {revision} prepared different artifacts ({short}): do the nodes have different \
             processors? see kubectl get pods -o wide"
        );
        return Trouble::new(Reason::ArtifactsDiffer, message);
    }
    let Prepared { digest: _, bytes, quality, samples, seconds, warnings: _ } = report;
    let message = format!(
        "revision {revision} was trained on {samples} samples in {seconds:.1} s ({bytes} bytes): {:?} {:.4} of {} samples",
        quality.metric, quality.value, quality.samples
    );
    Trouble::new(Reason::Prepared, message)
}

fn progressing(facts: &Facts<'_>, cause: Option<&Cause>) -> Said {
    let (status, why) = match cause {
        _ if *facts.outcome == Outcome::Paused => {
            let message = "nothing is changed until spec.paused is false";
            (FALSE, Trouble::new(Reason::Paused, message))
        }
        Some(Cause::Time(trouble)) => (TRUE, trouble.clone()),
        Some(Cause::Fault(trouble)) => (FALSE, trouble.clone()),
        None => match retiring(facts) {
            Some(message) => (TRUE, Trouble::new(Reason::Retiring, message)),
            None => (FALSE, Trouble::new(Reason::Settled, "nothing is left to do")),
        },
    };
    Said { type_: PROGRESSING, status, why }
}

fn retiring(facts: &Facts<'_>) -> Option<String> {
    let (revision, since) = facts.rollout.retired.iter().max_by_key(|(_, since)| **since)?;
    let end = since.checked_add(facts.plan.retire).unwrap_or(*since);
    Some(format!("revision {revision} no longer serves and is kept until {end:.0}"))
}
