//! Objects that the operator does not manage, or of earlier models.

use serde_json::{Value, json};

use super::fake_cluster::key;
use super::harness::{Harness, SYNTHETIC};

/// Stores an object of someone else under a name that the model needs.
fn take(harness: &Harness, plural: &str, name: &str, mut metadata: Value) -> Value {
    metadata["name"] = name.into();
    let mut object = json!({"data": {"theirs": "yes"}});
    object["metadata"] = metadata;
    harness.cluster().store(key(plural, "shop", name), object)
}

#[tokio::test]
async fn an_unmanaged_object_is_never_changed_and_blocks_the_revision() {
    let revision = Harness::new(SYNTHETIC).target_revision();
    let config = format!("iris-{revision}");
    let names = [
        ("services", "iris"),
        ("services", "iris-pods"),
        ("deployments", &config),
        ("controllerrevisions", &config),
        ("configmaps", &config),
        ("networkpolicies", "iris-pods"),
    ];
    for (plural, name) in names {
        let mut harness = Harness::new(SYNTHETIC);
        let theirs = take(&harness, plural, name, json!({}));
        let next = harness.reconcile().await.unwrap();
        assert_eq!(next.unwrap().as_secs(), 15, "{plural} {name}");
        assert_eq!(harness.cluster().get(plural, name), Some(&theirs), "{plural} {name}");
        assert_eq!(harness.cluster().writes, ["status iris"], "{plural} {name}");
        let conditions = harness.conditions();
        let expected_message =
            format!("shop/{name} does not belong to this model; delete it or rename the model");
        assert!(conditions[1].starts_with("Ready False NameTaken: "), "{conditions:?}");
        assert!(conditions[1].ends_with(&expected_message), "{conditions:?}");
        assert_eq!(harness.cluster().events.len(), 1, "{plural} {name}");

        harness.delete(plural, name);
        harness.settle().await;
        assert!(harness.conditions()[1].starts_with("Ready True"), "{plural} {name}");
    }
}

#[tokio::test]
async fn a_name_taken_later_keeps_the_serving_revision() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.delete("services", "iris");
    take(&harness, "services", "iris", json!({}));
    harness.settle().await;
    let conditions = harness.conditions();
    assert!(conditions[0].starts_with("Available True"), "{conditions:?}");
    assert!(conditions[1].starts_with("Ready False NameTaken"), "{conditions:?}");
    assert_eq!(harness.revisions()[&harness.target_revision()], (2, 2));
}

#[tokio::test]
async fn a_child_without_its_owner_reference_is_adopted() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let name = format!("iris-{}", harness.target_revision());
    let children = [
        ("deployments", name.as_str()),
        ("controllerrevisions", &name),
        ("configmaps", &name),
        ("services", "iris"),
    ];
    for (plural, name) in children {
        harness.edit(plural, name, |object| {
            drop(object["metadata"].as_object_mut().unwrap().remove("ownerReferences"));
        });
        harness.settle().await;
        let cluster = harness.cluster();
        assert_eq!(cluster.get(plural, name).unwrap()["metadata"]["ownerReferences"][0]["name"], "iris");
    }
}

#[tokio::test]
async fn external_changes_and_deletions_are_repaired_with_one_event() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.assert_no_repair_event();
    let name = format!("iris-{}", harness.target_revision());
    let children = [
        ("Deployment", "deployments", name.as_str()),
        ("ControllerRevision", "controllerrevisions", &name),
        ("ConfigMap", "configmaps", &name),
        ("Service", "services", "iris-pods"),
        ("Service", "services", "iris"),
        ("PodDisruptionBudget", "poddisruptionbudgets", "iris"),
        ("NetworkPolicy", "networkpolicies", "iris-pods"),
    ];
    for (kind, plural, child) in children {
        let before = harness.cluster().get(plural, child).unwrap().clone();
        let without = |object: &Value| (object["spec"].clone(), object["metadata"]["labels"].clone());
        harness.cluster().events.clear();
        harness.edit(plural, child, |object| object["metadata"]["labels"]["canopy.rs/model-uid"] = json!(""));
        harness.settle().await;
        assert_eq!(without(harness.cluster().get(plural, child).unwrap()), without(&before), "{child}");
        let expected_message = format!(
            "Warning Repaired {kind} shop/{child} was changed outside the operator and has been restored; change the PredictorModel instead"
        );
        let repairs = |event: &&String| event.contains("Repaired");
        assert_eq!(harness.cluster().events.iter().filter(repairs).collect::<Vec<_>>(), [&expected_message]);

        harness.cluster().events.clear();
        harness.delete(plural, child);
        harness.settle().await;
        assert_eq!(without(harness.cluster().get(plural, child).unwrap()), without(&before), "{child}");
        let expected_message = format!(
            "Warning Repaired {kind} shop/{child} was deleted outside the operator and has been recreated; delete the PredictorModel instead"
        );
        assert!(harness.cluster().events.contains(&expected_message), "{:?}", harness.cluster().events);
    }
}

#[tokio::test]
async fn a_child_without_its_labels_is_recognised_by_its_owner() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.edit("services", "iris-pods", |object| object["metadata"]["labels"] = json!({}));
    harness.settle().await;
    assert_eq!(
        harness.cluster().get("services", "iris-pods").unwrap()["metadata"]["labels"]["app.kubernetes.io/instance"],
        "iris"
    );
    assert!(harness.conditions()[1].starts_with("Ready True"));
}

#[tokio::test]
async fn objects_of_a_deleted_model_of_the_same_name_are_awaited() {
    let mut harness = Harness::new(SYNTHETIC);
    let owner = json!([{"apiVersion": "canopy.rs/v1alpha1", "kind": "PredictorModel", "name": "iris",
        "uid": "uid-earlier-iris-before", "controller": true}]);
    // The garbage collector has not run yet.
    let earlier = json!({"metadata": {"name": "before"}});
    harness.cluster().store(key("earlier", "shop", "iris-before"), earlier);
    take(&harness, "services", "iris", json!({"ownerReferences": owner}));
    harness.reconcile().await.unwrap();
    let conditions = harness.conditions();
    assert!(
        conditions[1].ends_with(
            "belongs to a deleted model of the same name and will be garbage-collected; no action is needed"
        ),
        "{conditions:?}"
    );
    harness.delete("earlier", "iris-before");
    harness.settle().await;
    assert!(harness.conditions()[1].starts_with("Ready True"));
}

#[tokio::test]
async fn a_deleted_model_leaves_no_objects() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.delete("predictormodels", "iris");
    harness.reconcile().await.unwrap();
    assert_eq!(harness.cluster().objects.keys().collect::<Vec<_>>(), Vec::<&super::fake_cluster::Key>::new());
}

#[tokio::test]
async fn a_model_in_a_terminating_namespace_is_not_changed() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let before = harness.conditions();
    harness.cluster().is_namespace_terminating = true;
    for (plural, child) in [("poddisruptionbudgets", "iris"), ("services", "iris")] {
        harness.delete(plural, child);
        harness.cluster().writes.clear();
        assert_eq!(harness.reconcile().await.unwrap(), None, "no requeue");
        let writes = harness.cluster().writes.clone();
        assert!(writes.len() == 1 && writes[0].starts_with("refused "), "{writes:?}");
    }
    harness.assert_no_repair_event();
    assert_eq!(harness.conditions(), before);
}
