//! Models that this operator cannot decode, for example because a newer version of Canopy wrote them.
//!
//! They are reported in the log, in an Event and in the condition Ready. Their children are left as they are.
//! Invariant: they do not prevent the operator from seeing other models.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use canopy_resource::model::PredictorModel;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource as _;
use kube::core::ObjectMeta;
use kube::core::error_boundary::InvalidObject;

use crate::reason::{Diagnosis, Reason};
use crate::status::conditions;

/// All models that cannot be decoded.
#[derive(Clone, Debug, Default)]
pub struct UndecodableModels(Arc<Mutex<BTreeMap<Key, UndecodableModel>>>);

/// Namespace and name.
type Key = (String, String);

/// A model that cannot be decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct UndecodableModel {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The error of the decoder.
    pub error: String,
}

impl UndecodableModels {
    /// Adds a model. Returns it if it is new or has changed.
    pub fn insert(&self, model: InvalidObject) -> Option<UndecodableModel> {
        let InvalidObject { error, mut metadata } = model;
        metadata.managed_fields = None;
        metadata.annotations = None;
        let now = UndecodableModel { metadata, error };
        let before = self.all().insert(key(&now.metadata), now.clone());
        // Changes of the status are ignored, because the operator writes it too.
        let what = |undecodable_model: &UndecodableModel| {
            (
                undecodable_model.metadata.uid.clone(),
                undecodable_model.metadata.generation,
                undecodable_model.error.clone(),
            )
        };
        (before.as_ref().map(what) != Some(what(&now))).then_some(now)
    }

    /// Removes a model that can be decoded or is gone.
    pub fn remove(&self, metadata: &ObjectMeta) {
        self.all().remove(&key(metadata));
    }

    /// Removes models that do not satisfy `is_there`.
    pub fn retain(&self, is_there: impl Fn(&ObjectMeta) -> bool) {
        self.all().retain(|_, undecodable_model| is_there(&undecodable_model.metadata));
    }

    /// Number of models.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a namespace has one that is not being deleted.
    pub fn has_models(&self, namespace: &str) -> bool {
        let is_kept =
            |undecodable_model: &UndecodableModel| undecodable_model.metadata.deletion_timestamp.is_none();
        self.all().iter().any(|((of, _), undecodable_model)| of == namespace && is_kept(undecodable_model))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, UndecodableModel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UndecodableModel {
    /// The diagnosis.
    pub fn diagnosis(&self) -> Diagnosis {
        let message = format!(
            "this version of the operator cannot decode the model: {}; correct the model, or run the version of Canopy that wrote it",
            self.error
        );
        Diagnosis::new(Reason::SpecInvalid, message)
    }

    /// The reference to the model for Events.
    pub fn reference(&self) -> ObjectReference {
        let ObjectMeta { name, namespace, uid, resource_version, .. } = self.metadata.clone();
        ObjectReference {
            api_version: Some(PredictorModel::api_version(&()).into_owned()),
            kind: Some(PredictorModel::kind(&()).into_owned()),
            name,
            namespace,
            uid,
            resource_version,
            ..ObjectReference::default()
        }
    }

    /// The condition Ready of the model.
    pub fn condition(&self, now: Timestamp) -> Condition {
        let Diagnosis { reason, message } = self.diagnosis();
        Condition {
            type_: conditions::READY.to_owned(),
            status: "False".to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            observed_generation: self.metadata.generation,
            last_transition_time: Time(conditions::whole_seconds(now)),
        }
    }
}

fn key(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
