//! The labels and annotations by which the operator knows its own objects again.
//!
//! Comes in: a model's name, uid, version, a revision. Goes out: maps of labels, and selectors. Never: a label
//! spelled elsewhere; watches select by these, so a typo would make objects invisible.

use std::collections::BTreeMap;

use canopy_contract::names::ModelName;

/// The operator as a writer of fields, a reporter of Events, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "canopy-operator";
/// Who made the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// What runs in the pods.
pub const APP: &str = "app.kubernetes.io/name";
/// The value of [`APP`] on everything of a model.
pub const PREDICTOR: &str = "canopy-predictor";
/// Which model, by name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Which model, by its uid: a model that was deleted and made again is another.
pub const MODEL_UID: &str = "canopy.rs/model-uid";
/// Which revision of the model.
pub const REVISION: &str = "canopy.rs/revision";

/// On the snapshot of a revision: the digest of what the spec and the data mean that it was made for.
pub const SPEC_DIGEST: &str = "canopy.rs/meaning";
/// On the Service that the gateway asks for endpoints: which revisions served before, and until when.
pub const RETIRED: &str = "canopy.rs/retired";

/// On an `EndpointSlice`: the Service it belongs to. Kubernetes sets it, and copies the labels of the Service beside it.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// On the Lease: the installation that leads.
pub const INSTALLATION: &str = "canopy.rs/installation";

const COMPONENT: &str = "app.kubernetes.io/component";
const PART_OF: &str = "app.kubernetes.io/part-of";
/// The version of the model, as people label it.
pub const VERSION: &str = "app.kubernetes.io/version";

/// Labels.
pub type Labels = BTreeMap<String, String>;

/// Selects every object that the operator made for a model.
pub fn of_any_model() -> String {
    format!("{MANAGED_BY}={MANAGER},{MODEL_UID}")
}

/// Labels of the objects that all revisions of a model share.
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

/// Labels of the objects of one revision.
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

/// Labels of the Service that lists all models of a namespace.
pub fn of_discovery_service() -> Labels {
    labels([(APP, PREDICTOR), (COMPONENT, "catalogue"), (PART_OF, "canopy"), (MANAGED_BY, MANAGER)])
}

/// Selects the pods of all models of a namespace.
pub fn pods_of_any_model() -> Labels {
    labels([(APP, PREDICTOR), (MANAGED_BY, MANAGER)])
}

/// A selector as text, as `kubectl --selector` takes it.
pub fn as_text(selector: &Labels) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
