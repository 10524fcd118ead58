//! Ownership of objects that have a name which a model needs. Objects of others are never changed.

use canopy_contract::names::ModelName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::labels::{INSTANCE, MANAGED_BY, MANAGER, MODEL_UID};
use crate::reason::{Diagnosis, Reason};

/// Checks that an object belongs to the model: it is its controller, or the object has no controller and the label of
/// the model.
pub fn check(kind: &str, found: &ObjectMeta, model: &ModelName, uid: &str) -> Result<(), Diagnosis> {
    let owners = found.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    let label = found.labels.as_ref().and_then(|labels| labels.get(MODEL_UID));
    match controller {
        Some(owner) if owner.uid == uid => return Ok(()),
        None if label.is_some_and(|label| label == uid) => return Ok(()),
        Some(_) | None => {}
    }
    let name = found.name.as_deref().unwrap_or_default();
    let namespace = found.namespace.as_deref().unwrap_or_default();
    let problem = match controller {
        Some(owner) if owner.kind == "PredictorModel" && owner.name == model.as_str() => {
            "belongs to a deleted model of the same name and will be garbage-collected; no action is needed"
                .to_owned()
        }
        Some(owner) => format!("belongs to {} {}; delete it or rename the model", owner.kind, owner.name),
        None => match orphan_of(found, model) {
            // Pods and selector of such an object carry the uid of the earlier model, and selectors are immutable, so
            // it cannot be adopted.
            Some(earlier) => format!(
                "belongs to an earlier model of the same name that was deleted with --cascade=orphan; delete its objects: \
                 kubectl delete deployments,services,configmaps,controllerrevisions,\
                 poddisruptionbudgets --namespace {namespace} --selector {MODEL_UID}={earlier}"
            ),
            None => "does not belong to this model; delete it or rename the model".to_owned(),
        },
    };
    Err(Diagnosis::new(Reason::NameTaken, format!("{kind} {namespace}/{name} {problem}")))
}

/// The uid of an earlier model of the same name, for which the operator created the object.
fn orphan_of<'a>(found: &'a ObjectMeta, model: &ModelName) -> Option<&'a String> {
    let labels = found.labels.as_ref()?;
    let is = |label: &str, expected: &str| labels.get(label).is_some_and(|value| value == expected);
    let is_ours = is(MANAGED_BY, MANAGER) && is(INSTANCE, model.as_str());
    labels.get(MODEL_UID).filter(|_| is_ours)
}

/// Whether a discovery Service belongs to the operator.
pub fn is_own_discovery_service(found: &ObjectMeta) -> bool {
    let label = found.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    label.is_some_and(|label| label == MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_claim(metadata: &str, expected: Result<(), &str>) {
        let text = format!("{{name: iris, namespace: shop, {metadata}}}");
        let found: ObjectMeta = serde_saphyr::from_str(&text).unwrap();
        let claim = check("Service", &found, &"iris".parse().unwrap(), "u1").map_err(|t| t.message);
        assert_eq!(claim.as_ref().map_err(String::as_str).copied(), expected);
    }

    fn owner(uid: &str, kind: &str, controller: bool) -> String {
        format!(
            "ownerReferences: [{{apiVersion: v1, kind: {kind}, name: iris, uid: {uid}, controller: {controller}}}]"
        )
    }

    const LABEL: &str = "labels: {canopy.rs/model-uid: u1}";

    #[test]
    fn an_object_belongs_to_its_controller_or_else_to_the_model_of_its_label() {
        check_claim(&owner("u1", "PredictorModel", true), Ok(()));
        check_claim(LABEL, Ok(()));
        check_claim(&format!("{LABEL}, {}", owner("u9", "ConfigMap", false)), Ok(()));
    }

    #[test]
    fn the_diagnosis_of_an_unmanaged_object_says_what_to_do() {
        check_claim(
            "labels: {}",
            Err("Service shop/iris does not belong to this model; delete it or rename the model"),
        );
        check_claim(
            "labels: {canopy.rs/model-uid: u0}",
            Err("Service shop/iris does not belong to this model; delete it or rename the model"),
        );
        check_claim(
            &format!("{LABEL}, {}", owner("u9", "Release", true)),
            Err("Service shop/iris belongs to Release iris; delete it or rename the model"),
        );
        let orphan = "labels: {canopy.rs/model-uid: u0, app.kubernetes.io/managed-by: canopy-operator, app.kubernetes.io/instance: iris}";
        check_claim(
            orphan,
            Err(
                "Service shop/iris belongs to an earlier model of the same name that was deleted with --cascade=orphan; delete its objects: kubectl delete deployments,services,configmaps,controllerrevisions,poddisruptionbudgets --namespace shop --selector canopy.rs/model-uid=u0",
            ),
        );
        check_claim(
            &owner("u0", "PredictorModel", true),
            Err(
                "Service shop/iris belongs to a deleted model of the same name and will be garbage-collected; no action is needed",
            ),
        );
    }
}
