//! Objects of other people, of earlier models, and of nobody.

use serde_json::{Value, json};

use super::bench::{Bench, SYNTHETIC};
use super::world::key;

/// Stores an object that the operator did not make, under a name that the model needs.
fn take(bench: &Bench, plural: &str, name: &str, mut metadata: Value) -> Value {
    metadata["name"] = name.into();
    let mut object = json!({"data": {"theirs": "yes"}});
    object["metadata"] = metadata;
    bench.world().store(key(plural, "shop", name), object)
}

#[tokio::test]
async fn an_object_of_somebody_else_is_never_touched_and_nothing_is_made_beside_it() {
    let revision = Bench::new(SYNTHETIC).asked();
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
        let mut bench = Bench::new(SYNTHETIC);
        let theirs = take(&bench, plural, name, json!({}));
        let next = bench.pass().await.unwrap();
        assert_eq!(next.unwrap().as_secs(), 15, "{plural} {name}");
        assert_eq!(bench.world().get(plural, name), Some(&theirs), "{plural} {name}");
        assert_eq!(bench.world().writes, ["status iris"], "{plural} {name}");
        let said = bench.conditions();
        let told = format!("shop/{name} was not made for this model; delete it or rename the model");
        assert!(said[1].starts_with("Ready False NameTaken: "), "{said:?}");
        assert!(said[1].ends_with(&told), "{said:?}");
        assert_eq!(bench.world().events.len(), 1, "{plural} {name}");

        bench.delete(plural, name);
        bench.settle().await;
        assert!(bench.conditions()[1].starts_with("Ready True"), "{plural} {name}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_later_leaves_what_serves() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.delete("services", "iris");
    take(&bench, "services", "iris", json!({}));
    bench.settle().await;
    let said = bench.conditions();
    assert!(said[0].starts_with("Available True"), "{said:?}");
    assert!(said[1].starts_with("Ready False NameTaken"), "{said:?}");
    assert_eq!(bench.revisions()[&bench.asked()], (2, 2));
}

#[tokio::test]
async fn an_object_that_only_lost_its_owner_is_adopted_again() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let name = format!("iris-{}", bench.asked());
    let children = [
        ("deployments", name.as_str()),
        ("controllerrevisions", &name),
        ("configmaps", &name),
        ("services", "iris"),
    ];
    for (plural, name) in children {
        bench.edit(plural, name, |object| {
            drop(object["metadata"].as_object_mut().unwrap().remove("ownerReferences"));
        });
        bench.settle().await;
        let world = bench.world();
        assert_eq!(world.get(plural, name).unwrap()["metadata"]["ownerReferences"][0]["name"], "iris");
    }
}

#[tokio::test]
async fn what_somebody_else_changes_or_deletes_is_repaired_and_told_once() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.tells_of_no_repair();
    let name = format!("iris-{}", bench.asked());
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
        let before = bench.world().get(plural, child).unwrap().clone();
        let without = |object: &Value| (object["spec"].clone(), object["metadata"]["labels"].clone());
        bench.world().events.clear();
        bench.edit(plural, child, |object| object["metadata"]["labels"]["canopy.rs/model-uid"] = json!(""));
        bench.settle().await;
        assert_eq!(without(bench.world().get(plural, child).unwrap()), without(&before), "{child}");
        let told = format!(
            "Warning Repaired {kind} shop/{child} was changed by somebody else and is as it was again; change the model instead"
        );
        let repairs = |event: &&String| event.contains("Repaired");
        assert_eq!(bench.world().events.iter().filter(repairs).collect::<Vec<_>>(), [&told]);

        bench.world().events.clear();
        bench.delete(plural, child);
        bench.settle().await;
        assert_eq!(without(bench.world().get(plural, child).unwrap()), without(&before), "{child}");
        let told = format!(
            "Warning Repaired {kind} shop/{child} was deleted by somebody else and is there again; delete the model instead"
        );
        assert!(bench.world().events.contains(&told), "{:?}", bench.world().events);
    }
}

#[tokio::test]
async fn an_object_that_lost_its_labels_is_known_by_its_owner() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.edit("services", "iris-pods", |object| object["metadata"]["labels"] = json!({}));
    bench.settle().await;
    assert_eq!(
        bench.world().get("services", "iris-pods").unwrap()["metadata"]["labels"]["app.kubernetes.io/instance"],
        "iris"
    );
    assert!(bench.conditions()[1].starts_with("Ready True"));
}

#[tokio::test]
async fn what_is_left_of_an_earlier_model_of_the_name_is_waited_for() {
    let mut bench = Bench::new(SYNTHETIC);
    let owner = json!([{"apiVersion": "canopy.rs/v1alpha1", "kind": "PredictorModel", "name": "iris",
        "uid": "uid-earlier-iris-before", "controller": true}]);
    // The garbage collector has not come by yet: the earlier model is still there in its eyes.
    let earlier = json!({"metadata": {"name": "before"}});
    bench.world().store(key("earlier", "shop", "iris-before"), earlier);
    take(&bench, "services", "iris", json!({"ownerReferences": owner}));
    bench.pass().await.unwrap();
    let said = bench.conditions();
    assert!(
        said[1].ends_with("is what is left of an earlier model of this name; it goes by itself"),
        "{said:?}"
    );
    bench.delete("earlier", "iris-before");
    bench.settle().await;
    assert!(bench.conditions()[1].starts_with("Ready True"));
}

#[tokio::test]
async fn a_model_that_is_deleted_leaves_nothing_behind() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.delete("predictormodels", "iris");
    bench.pass().await.unwrap();
    assert_eq!(bench.world().objects.keys().collect::<Vec<_>>(), Vec::<&super::world::Key>::new());
}

#[tokio::test]
async fn a_model_whose_namespace_is_being_deleted_is_left_alone() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let before = bench.conditions();
    bench.world().goes = true;
    for (plural, child) in [("poddisruptionbudgets", "iris"), ("services", "iris")] {
        bench.delete(plural, child);
        bench.world().writes.clear();
        assert_eq!(bench.pass().await.unwrap(), None, "it comes back though nothing changes");
        let writes = bench.world().writes.clone();
        assert!(writes.len() == 1 && writes[0].starts_with("refused "), "{writes:?}");
    }
    bench.tells_of_no_repair();
    assert_eq!(bench.conditions(), before);
}
