//! Events about a model, for kube's `Recorder`, which counts repetitions in one Event.
//!
//! A change of status gives at most one Event: `kubectl describe` shows what a user needs to know, not each step.

use canopy_resource::status::PredictorModelStatus;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::external_changes::{ExternalChange, Repair};
use crate::reason::{Diagnosis, Reason};
use crate::spec::DesiredState;
use crate::status::conditions;

/// The most bytes that the API server accepts in the note of an Event.
const NOTE_BYTES_MAX: usize = 1024;

/// Reason of the Event about a restored child.
pub const REPAIRED: &str = "Repaired";

/// The Event about a child that was restored after an external change. The child is its related object, so that repairs
/// of different children are counted separately.
pub fn repaired(namespace: &str, repair: &Repair) -> Event {
    let Repair { kind, name, change } = repair;
    let (action, message) = match change {
        ExternalChange::Changed => (
            "Reapply",
            format!(
                "{kind} {namespace}/{name} was changed outside the operator and has been restored; change the \
                 PredictorModel instead"
            ),
        ),
        ExternalChange::Deleted => (
            "Recreate",
            format!(
                "{kind} {namespace}/{name} was deleted outside the operator and has been recreated; delete the \
                 PredictorModel instead"
            ),
        ),
        ExternalChange::Replaced => (
            "Replace",
            format!(
                "{kind} {namespace}/{name} did not have the content that the operator wrote and was replaced; check \
                 who can write it"
            ),
        ),
    };
    let secondary = Some(object_reference(kind, namespace, name));
    Event { action: action.to_owned(), secondary, ..event(EventType::Warning, REPAIRED, &message) }
}

/// The Event about a change of status: a revision serves, or the model is blocked. The Deployment of the target revision
/// is its related object.
pub fn status_changed(
    before: Option<&PredictorModelStatus>,
    now: &PredictorModelStatus,
    desired: &DesiredState,
) -> Option<Event> {
    let ready = conditions::ready_of(now)?;
    let same = |before: &Condition| before.status == ready.status && before.reason == ready.reason;
    let is_same_revision = before.is_some_and(|before| before.revision == now.revision);
    let is_ready = ready.status == "True";
    let is_known = before.and_then(conditions::ready_of).is_some_and(same) && (is_same_revision || !is_ready);
    let quiet = [Reason::Preparing, Reason::Starting, Reason::ScaledToZero, Reason::Paused];
    if is_known || quiet.iter().any(|reason| reason.as_str() == ready.reason) {
        return None;
    }
    let type_ = if is_ready { EventType::Normal } else { EventType::Warning };
    let target = desired.target.as_ref().ok();
    let deployment = target.map(|target| desired.name.revision_object(&target.revision));
    let secondary = deployment.map(|name| object_reference("Deployment", &desired.namespace, &name));
    Some(Event { secondary, ..event(type_, &ready.reason, &ready.message) })
}

/// The Event about a model that cannot be reconciled.
pub fn warning(diagnosis: &Diagnosis) -> Event {
    event(EventType::Warning, diagnosis.reason.as_str(), &diagnosis.message)
}

fn event(type_: EventType, reason: &str, message: &str) -> Event {
    let note = &message[..message.floor_char_boundary(NOTE_BYTES_MAX)];
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.to_owned()),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

fn object_reference(kind: &str, namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
