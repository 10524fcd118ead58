//! Tenants who may write `ConfigMap`s, models, and objects in other namespaces cannot change what runs, or the status
//! of other models.

use serde_json::{Value, json};

use super::conditions::{CSV, DATA};
use super::fake_cluster::key;
use super::harness::{Harness, SYNTHETIC};

const UID: &str = "uid-predictormodels-iris";

/// The labels of objects of a revision.
fn labels(revision: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "canopy-predictor",
        "app.kubernetes.io/instance": "iris",
        "app.kubernetes.io/component": "predictor",
        "app.kubernetes.io/part-of": "canopy",
        "app.kubernetes.io/managed-by": "canopy-operator",
        "app.kubernetes.io/version": "1.0",
        "canopy.rs/model-uid": UID,
        "canopy.rs/revision": revision,
    })
}

/// A pod template with privileges.
fn evil(revision: &str) -> Value {
    let container = json!({"name": "serve", "image": "evil", "securityContext": {"privileged": true}});
    let volume = json!({"name": "node", "hostPath": {"path": "/"}});
    json!({"metadata": {"labels": labels(revision)}, "spec": {
        "hostPID": true, "serviceAccountName": "admin", "containers": [container], "volumes": [volume]}})
}

/// A forged `ConfigMap` in place of the serving config.
fn forged(name: &str, revision: &str) -> Value {
    let serving = json!({"model": "iris", "namespace": "shop", "revision": revision, "version": "1.0"});
    json!({
        "metadata": {"name": name, "labels": labels(revision)},
        "immutable": true,
        "data": {"serving.json": serving.to_string(), "pod.json": evil(revision).to_string()},
    })
}

/// `kubectl delete --ignore-not-found` and `kubectl create`.
fn put(harness: &Harness, namespace: &str, plural: &str, object: Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let mut cluster = harness.cluster();
    drop(cluster.remove(&key(plural, namespace, &name)));
    cluster.store(key(plural, namespace, &name), object);
}

/// Checks that no object contains the forged content.
#[track_caller]
fn check_nothing_evil(harness: &Harness) {
    for plural in ["deployments", "pods", "controllerrevisions"] {
        for object in
            harness.cluster().of_kind(plural).filter(|object| object["metadata"]["namespace"] == "shop")
        {
            let text = object.to_string();
            assert!(!text.contains("evil") && !text.contains("hostPID"), "{text}");
        }
    }
}

fn content(harness: &Harness, name: &str) -> Value {
    harness.cluster().get("configmaps", name).unwrap()["data"].clone()
}

#[tokio::test]
async fn a_forged_config_map_does_not_affect_pods() {
    let mut untouched = Harness::new(SYNTHETIC);
    untouched.settle().await;
    let revision = untouched.target_revision();
    let name = format!("iris-{revision}");
    let template = |harness: &Harness| harness.cluster().get("deployments", &name).unwrap()["spec"].clone();

    let mut harness = Harness::new(SYNTHETIC);
    harness.edit_spec(|spec| spec["paused"] = true.into());
    harness.settle().await;
    put(&harness, "shop", "configmaps", forged(&name, &revision));
    harness.edit_spec(|spec| spec["paused"] = false.into());
    harness.settle().await;
    assert_eq!(template(&harness), template(&untouched));
    assert_eq!(content(&harness, &name), content(&untouched, &name));
    check_nothing_evil(&harness);

    harness.edit_spec(|spec| spec["paused"] = true.into());
    harness.settle().await;
    put(&harness, "shop", "configmaps", forged(&name, &revision));
    harness.delete("deployments", &name);
    harness.edit_spec(|spec| spec["paused"] = false.into());
    harness.settle().await;
    assert_eq!(template(&harness), template(&untouched));
    assert_eq!(content(&harness, &name), content(&untouched, &name));
    check_nothing_evil(&harness);
}

#[tokio::test]
async fn a_forged_config_map_outside_the_watch_is_replaced() {
    let mut harness = Harness::new(SYNTHETIC);
    let revision = harness.target_revision();
    let mut config = forged(&format!("iris-{revision}"), &revision);
    // Only the label by which the operator adopts it.
    config["metadata"]["labels"] = json!({"canopy.rs/model-uid": UID});
    put(&harness, "shop", "configmaps", config);
    harness.settle().await;
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
    let content = content(&harness, &format!("iris-{revision}"));
    assert_eq!(content["pod.json"], Value::Null);
    assert!(content["serving.json"].as_str().unwrap().contains("randomForest"), "{content}");
    check_nothing_evil(&harness);
}

#[tokio::test]
async fn a_config_map_exchanged_while_serving_is_replaced_with_an_event() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let revision = harness.target_revision();
    let name = format!("iris-{revision}");
    let (config, deployment) =
        (content(&harness, &name), harness.cluster().get("deployments", &name).unwrap()["spec"].clone());
    harness.cluster().events.clear();
    put(&harness, "shop", "configmaps", forged(&name, &revision));
    harness.settle().await;
    assert_eq!(content(&harness, &name), config);
    assert_eq!(harness.cluster().get("deployments", &name).unwrap()["spec"], deployment);
    let expected_message = format!(
        "Warning Repaired ConfigMap shop/{name} did not have the content that the operator wrote and was replaced; check who can write it"
    );
    assert_eq!(harness.cluster().events, [expected_message]);
    check_nothing_evil(&harness);
    // Correct content is not read again.
    harness.cluster().reads.clear();
    harness.settle().await;
    assert_eq!(harness.cluster().reads, Vec::<String>::new());
}

#[tokio::test]
async fn objects_in_another_namespace_have_no_effect() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.edit_spec(|spec| spec["paused"] = true.into());
    harness.settle().await;
    let revision = harness.target_revision();
    let name = format!("iris-{revision}");
    put(&harness, "att", "configmaps", forged(&name, &revision));
    let mut controller_revision =
        json!({"metadata": {"name": name, "labels": labels(&revision)}, "revision": 1});
    controller_revision["data"] = json!({"serving": "{}", "template": evil(&revision)});
    put(&harness, "att", "controllerrevisions", controller_revision);
    let mut deployment = json!({"metadata": {"name": name, "labels": labels(&revision)}});
    deployment["spec"] = json!({"replicas": 7, "template": evil(&revision),
        "selector": {"matchLabels": {"canopy.rs/model-uid": "other"}}});
    put(&harness, "att", "deployments", deployment.clone());
    let mut service = json!({"metadata": {"name": "iris-pods", "labels": labels(&revision)}});
    service["spec"] = json!({"selector": {"canopy.rs/revision": "0badc0de"}});
    put(&harness, "att", "services", service);
    harness.edit_spec(|spec| spec["paused"] = false.into());
    harness.settle().await;
    let ready = format!("Ready True Serving: revision {revision} answers with all 2 pods");
    assert_eq!(harness.conditions()[1], ready);
    check_nothing_evil(&harness);
    assert_eq!(harness.cluster().objects[&key("deployments", "att", &name)]["spec"], deployment["spec"]);

    for namespace in ["att", "shop"] {
        harness.cluster().store(key("pods", namespace, "forged"), forged_pod(&revision));
        harness.settle().await;
        assert_eq!(harness.conditions()[1], ready, "{namespace}");
    }
}

/// A pod with the labels of a revision and a forged refusal.
fn forged_pod(revision: &str) -> Value {
    let report = json!({"refused": {"code": "gate_missed", "message": "forged"}}).to_string();
    let ended = json!({"terminated": {"exitCode": 0, "message": report}});
    let status = super::fake_cluster::container("prepare", &ended);
    let mut pod = json!({"metadata": {"name": "forged", "labels": labels(revision)}});
    pod["spec"] = json!({"containers": [{"name": "serve"}], "initContainers": [{"name": "prepare"}]});
    pod["status"] = json!({"initContainerStatuses": [status]});
    pod
}

#[tokio::test]
async fn a_forged_pod_cannot_refuse_a_revision() {
    let mut harness = Harness::new(SYNTHETIC);
    let revision = harness.target_revision();
    let name = format!("iris-{revision}");
    let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]);
    let owners = [
        json!([]),
        owner("ReplicaSet", "other-5d8f7"),
        owner("ReplicaSet", &name),
        owner("Job", &format!("{name}-1")),
    ];
    for (number, owners) in owners.into_iter().enumerate() {
        let mut pod = forged_pod(&revision);
        pod["metadata"]["name"] = format!("forged-{number}").into();
        pod["metadata"]["ownerReferences"] = owners;
        // Inserted directly: the garbage collector of the fake would remove a pod whose owner does not exist.
        harness.cluster().objects.insert(key("pods", "shop", &format!("forged-{number}")), pod);
    }
    harness.settle().await;
    assert_eq!(
        harness.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
}

#[tokio::test]
async fn a_forged_snapshot_is_replaced() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let revision = harness.target_revision();
    let name = format!("iris-{revision}");
    let before = harness.cluster().get("controllerrevisions", &name).unwrap().clone();
    let deployment = harness.cluster().get("deployments", &name).unwrap()["spec"].clone();
    let mut controller_revision = before.clone();
    controller_revision["data"]["template"] = evil(&revision);
    put(&harness, "shop", "controllerrevisions", controller_revision);
    harness.settle().await;
    assert_eq!(harness.cluster().get("controllerrevisions", &name).unwrap()["data"], before["data"]);
    assert_eq!(harness.cluster().get("deployments", &name).unwrap()["spec"], deployment);
    check_nothing_evil(&harness);
    assert!(harness.cluster().events.iter().any(|event| event.contains("ControllerRevision shop/iris-")));

    // A deleted snapshot does not affect pods either.
    harness.delete("controllerrevisions", &name);
    harness.settle().await;
    assert_eq!(harness.cluster().get("deployments", &name).unwrap()["spec"], deployment);
    assert_eq!(harness.cluster().get("controllerrevisions", &name).unwrap()["data"], before["data"]);
}

/// A harness whose model serves with a data `ConfigMap`.
async fn with_data() -> (Harness, String) {
    let mut harness = Harness::new(CSV);
    harness.apply(DATA);
    harness.settle().await;
    let copy = format!("iris-{}-data", harness.target_revision());
    (harness, copy)
}

fn exchanged(harness: &Harness, copy: &str) -> Value {
    let mut object = harness.cluster().get("configmaps", copy).unwrap().clone();
    object["metadata"].as_object_mut().unwrap().remove("uid");
    object["data"]["data.csv"] = "a,species\n9,z\n".into();
    object
}

#[tokio::test]
async fn an_exchanged_data_config_map_is_recreated_from_its_source() {
    let (mut harness, copy) = with_data().await;
    let before = content(&harness, &copy);
    put(&harness, "shop", "configmaps", exchanged(&harness, &copy));
    harness.settle().await;
    assert_eq!(content(&harness, &copy), before);
    harness.delete("configmaps", &copy);
    harness.settle().await;
    assert_eq!(content(&harness, &copy), before);
}

#[tokio::test]
async fn a_lost_data_config_map_is_reported_and_forged_data_are_never_used() {
    let (mut harness, copy) = with_data().await;
    let revision = harness.target_revision();
    harness.delete("configmaps", "iris-data");
    harness.settle().await;
    assert!(harness.conditions()[0].starts_with("Available True Serving"), "{:?}", harness.conditions());
    put(&harness, "shop", "configmaps", exchanged(&harness, &copy));
    harness.settle().await;
    assert!(harness.cluster().get("configmaps", &copy).is_none(), "other data are left for pods to train on");
    let expected_message =
        format!("Available True DataCopyLost: revision {revision} answers, but ConfigMap {copy}");
    assert!(harness.conditions()[0].starts_with(&expected_message), "{:?}", harness.conditions());
    assert_eq!(harness.revisions()[&revision], (2, 2));

    harness.apply(DATA);
    harness.settle().await;
    assert!(harness.conditions()[0].starts_with("Available True Serving"), "{:?}", harness.conditions());
    assert_eq!(content(&harness, &copy)["data.csv"], "a,species\n1,x\n2,y\n");
}

#[tokio::test]
async fn data_are_read_when_they_change_and_not_in_each_reconcile() {
    let (mut harness, _) = with_data().await;
    let reads = |harness: &Harness| {
        harness.cluster().reads.iter().filter(|read| *read == "configmaps iris-data").count()
    };
    assert_eq!(reads(&harness), 1, "{:?}", harness.cluster().reads);
    for _ in 0..3 {
        harness.reconcile().await.unwrap();
    }
    harness.edit_spec(|spec| spec["replicas"] = 3.into());
    harness.settle().await;
    assert_eq!(reads(&harness), 1, "{:?}", harness.cluster().reads);
    // Another spec is resolved again.
    harness.edit_spec(|spec| spec["train"]["testPercent"] = 30.into());
    harness.settle().await;
    assert_eq!(reads(&harness), 2, "{:?}", harness.cluster().reads);
    harness.apply(&DATA.replace("2,y", "3,y"));
    harness.settle().await;
    assert_eq!(reads(&harness), 3, "{:?}", harness.cluster().reads);
    assert_eq!(harness.selected_by("iris-pods"), Some(harness.target_revision()));
}
