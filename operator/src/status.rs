//! The status of a model. It states only what pods have shown, or what was recorded when they did.

pub mod reach;
pub mod inputs;
pub mod blockers;
pub mod conditions;
pub mod events;

use canopy_contract::describe::Quality;
use canopy_contract::report::Prepared;
use canopy_resource::model::{PredictorModel, PredictorModelSpec};
use canopy_resource::status::{ArtifactStatus, PredictorModelStatus, QualityStatus, RefusedRevision};
use jiff::Timestamp;
use kube::Resource as _;

use crate::labels;
use crate::rollout::refusal_policy;
use crate::rollout::revisions::was_ever_ready;
use crate::state::PreviousStatus;
use crate::status::inputs::StatusInputs;

/// The facts from the previous status that decisions need.
pub fn previous_status(model: &PredictorModel, now: Timestamp) -> PreviousStatus {
    let status = model.status.clone().unwrap_or_default();
    let unready = conditions::ready_of(&status).filter(|ready| ready.status == "False");
    let unready_since = unready.map(|ready| ready.last_transition_time.0);
    let counts = |refused: &RefusedRevision| {
        still_counts(refused, &model.spec) && refusal_policy::is_in_force(refused, now)
    };
    let refused = status.refused.filter(counts);
    PreviousStatus {
        prepared: status.artifact.is_some(),
        revision: status.revision,
        retry_after: refused.as_ref().and_then(|refused| Some(refused.retry_after.as_ref()?.0)),
        refused: refused.map(|refused| refused.revision),
        unready_since,
    }
}

/// The deadline is not part of a revision: a refusal for a deadline expires when the deadline changes.
fn still_counts(refused: &RefusedRevision, spec: &PredictorModelSpec) -> bool {
    refused.deadline_seconds.is_none_or(|missed| missed == spec.deadline_seconds())
}

/// Computes the status of a model.
pub fn status(model: &PredictorModel, inputs: StatusInputs<'_>) -> PredictorModelStatus {
    let StatusInputs { desired, observed, now, .. } = inputs;
    let before = model.status.clone().unwrap_or_default();
    let kept = before.refused.clone().filter(|refused| still_counts(refused, &model.spec));
    let refused = refusal_policy::refusal(desired, observed, kept.as_ref(), now);
    let in_force = refused.as_ref().filter(|refused| refusal_policy::is_in_force(refused, now));
    let inputs = StatusInputs {
        refused: in_force,
        was_ready: conditions::was_true(&before, conditions::READY),
        was_available: conditions::was_true(&before, conditions::AVAILABLE),
        ..inputs
    };
    let blocker = blockers::find(&inputs);

    let serving = inputs.serving();
    let deployment = serving.and_then(|serving| inputs.deployment(serving)).cloned().unwrap_or_default();
    let prepared = serving.and_then(|serving| inputs.prepared(serving));
    let is_same_revision = before.revision.as_deref() == serving;
    // The Services select the first revision before its pods are ready; it only serves once one was ready.
    let served = serving
        .filter(|serving| is_same_revision || deployment.ready > 0 || was_ever_ready(observed, serving));
    PredictorModelStatus {
        observed_generation: model.meta().generation,
        conditions: conditions::all(&inputs, blocker.as_ref(), model, now),
        version: served.and_then(|served| version(&inputs, served)),
        revision: served.map(str::to_owned),
        artifact: prepared
            .filter(|_| served.is_some())
            .map(artifact)
            .or(before.artifact.filter(|_| is_same_revision)),
        quality: prepared
            .filter(|_| served.is_some())
            .and_then(|prepared| prepared.quality.as_ref())
            .map(quality)
            .or(before.quality.filter(|_| is_same_revision)),
        replicas: deployment.pods,
        ready_replicas: deployment.ready,
        selector: serving.map(|serving| labels::as_text(&labels::pods_of_revision(&desired.uid, serving))),
        url: serving.map(|_| format!("http://{}.{}.svc", desired.name.stable_service(), desired.namespace)),
        refused,
    }
}

fn version(inputs: &StatusInputs<'_>, revision: &str) -> Option<String> {
    let kept = inputs.observed.revisions.get(revision).and_then(|seen| seen.snapshot.as_ref());
    let planned =
        || inputs.target().filter(|target| target.revision == revision).map(|target| &target.snapshot);
    kept.or_else(planned).map(|snapshot| snapshot.version.clone())
}

fn artifact(prepared: &Prepared) -> ArtifactStatus {
    let bytes = i64::try_from(prepared.bytes).unwrap_or(i64::MAX);
    ArtifactStatus { sha256: prepared.digest.clone(), bytes }
}

fn quality(quality: &Quality) -> QualityStatus {
    QualityStatus {
        metric: format!("{:?}", quality.metric),
        value: format!("{:.4}", quality.value),
        samples: i64::try_from(quality.samples).unwrap_or(i64::MAX),
    }
}
