//! Labels and annotations of the operator's objects.
//!
//! Watches select objects by these labels, so no other module spells them.

use std::collections::BTreeMap;

use canopy_contract::names::ModelName;

/// The name of the operator as a field manager, as the reporter of Events, and as the value of [`MANAGED_BY`].
pub const MANAGER: &str = "canopy-operator";
/// The tool that manages the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The name of the application.
pub const APP: &str = "app.kubernetes.io/name";
/// The value of [`APP`] on all objects of a model.
pub const PREDICTOR: &str = "canopy-predictor";
/// The name of the model.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The uid of the model: a model that was deleted and created again is another model.
pub const MODEL_UID: &str = "canopy.rs/model-uid";
/// The revision of the model.
pub const REVISION: &str = "canopy.rs/revision";

/// Annotation of the snapshot of a revision: the digest of the spec and the data of that revision.
pub const SPEC_DIGEST: &str = "canopy.rs/meaning";
/// Annotation of the Service through which gateways discover pods: the revisions that served before, with the time
/// they stopped serving.
pub const RETIRED: &str = "canopy.rs/retired";

/// Label of an `EndpointSlice`: the Service it belongs to. Kubernetes sets it, and copies the labels of the Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Annotation of the Lease: the installation of the leader.
pub const INSTALLATION: &str = "canopy.rs/installation";

const COMPONENT: &str = "app.kubernetes.io/component";
const PART_OF: &str = "app.kubernetes.io/part-of";
/// The version of the model from its spec.
pub const VERSION: &str = "app.kubernetes.io/version";

/// A set of labels.
pub type Labels = BTreeMap<String, String>;

/// Selects the objects of all models.
pub fn of_any_model() -> String {
    format!("{MANAGED_BY}={MANAGER},{MODEL_UID}")
}

/// Labels of objects shared by all revisions of a model.
pub fn of_model(name: &ModelName, uid: &str) -> Labels {
    labels([
        (APP, PREDICTOR),
        (INSTANCE, name.as_str()),
        (COMPONENT, "predictor"),
        (PART_OF, "canopy"),
        (MANAGED_BY, MANAGER),
        (MODEL_UID, uid),
    ])
}

/// Labels of objects of one revision.
pub fn of_revision(name: &ModelName, uid: &str, version: &str, revision: &str) -> Labels {
    let mut all = of_model(name, uid);
    all.extend(labels([(VERSION, version), (REVISION, revision)]));
    all
}

/// Selects the pods of all revisions of a model.
pub fn pods_of_model(uid: &str) -> Labels {
    labels([(MODEL_UID, uid)])
}

/// Selects the pods of one revision.
pub fn pods_of_revision(uid: &str, revision: &str) -> Labels {
    labels([(MODEL_UID, uid), (REVISION, revision)])
}

/// Labels of the discovery Service, which lists all models of a namespace.
pub fn of_discovery_service() -> Labels {
    labels([(APP, PREDICTOR), (COMPONENT, "catalogue"), (PART_OF, "canopy"), (MANAGED_BY, MANAGER)])
}

/// Selects the pods of all models of a namespace.
pub fn pods_of_any_model() -> Labels {
    labels([(APP, PREDICTOR), (MANAGED_BY, MANAGER)])
}

/// A selector in the syntax of `kubectl --selector`.
pub fn as_text(selector: &Labels) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
