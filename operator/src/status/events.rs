//! The few changes that are worth an Event.
//!
//! Comes in: the status of before and the one of now. Goes out: at most one announcement. Never: one for each
//! step; `kubectl describe` should show what people have to know, not what the operator did.

use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta};

use crate::external_changes::{ExternalChange, Repair};
use crate::labels::MANAGER;
use crate::reason::Reason;
use crate::status::conditions;

/// The most characters of an Event, so that its bytes keep within what the API server takes.
const NOTE_MAX: usize = 250;

/// The word of an Event that tells of a repair.
pub const REPAIRED: &str = "Repaired";

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whether somebody should look.
    pub is_warning: bool,
    /// The word.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// What a repair is worth: somebody works against the operator, and will want to know why it does not last.
pub fn of_repair(namespace: &str, repair: &Repair) -> Announcement {
    let Repair { kind, name, change } = repair;
    let message = match change {
        ExternalChange::Changed => format!(
            "{kind} {namespace}/{name} was changed by somebody else and is as it was again; change the model instead"
        ),
        ExternalChange::Deleted => format!(
            "{kind} {namespace}/{name} was deleted by somebody else and is there again; delete the model instead"
        ),
        ExternalChange::Replaced => format!(
            "{kind} {namespace}/{name} was not what the operator wrote and was replaced; find out who may write it"
        ),
    };
    Announcement { is_warning: true, reason: REPAIRED.to_owned(), message }
}

/// What a change of status is worth: that a revision serves now, or what hinders it.
pub fn of(before: Option<&PredictorModelStatus>, now: &PredictorModelStatus) -> Option<Announcement> {
    let ready = conditions::ready_of(now)?;
    let same = |before: &Condition| before.status == ready.status && before.reason == ready.reason;
    let stayed = before.is_some_and(|before| before.revision == now.revision);
    let is_ready = ready.status == "True";
    let is_known = before.and_then(conditions::ready_of).is_some_and(same) && (stayed || !is_ready);
    let quiet = [Reason::Preparing, Reason::Starting, Reason::ScaledToZero, Reason::Paused];
    let is_quiet = quiet.iter().any(|reason| reason.as_str() == ready.reason);
    (!is_known && !is_quiet).then(|| Announcement {
        is_warning: !is_ready,
        reason: ready.reason.clone(),
        message: ready.message.clone(),
    })
}

/// The Event that says it, about what `model` names.
pub fn event(model: ObjectReference, news: &Announcement, now: Timestamp) -> Event {
    let Announcement { is_warning, reason, message } = news;
    Event {
        metadata: ObjectMeta {
            name: model.name.as_ref().map(|name| format!("{name}.{:x}", now.as_nanosecond())),
            namespace: model.namespace.clone(),
            ..ObjectMeta::default()
        },
        regarding: Some(model),
        type_: Some(if *is_warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.clone()),
        note: Some(message.chars().take(NOTE_MAX).collect()),
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(MANAGER.to_owned()),
        ..Event::default()
    }
}
