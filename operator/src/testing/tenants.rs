//! A tenant who may write `ConfigMap`s and models, and objects of other namespaces: none of it decides what runs, or
//! changes what another model says of itself.

use serde_json::{Value, json};

use super::conditions::{CSV, DATA};
use super::fake_cluster::key;
use super::harness::{Harness, SYNTHETIC};

const UID: &str = "uid-predictormodels-iris";

/// The labels by which the operator knows its own objects of a revision.
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

/// A pod that is root on its node.
fn evil(revision: &str) -> Value {
    let container = json!({"name": "serve", "image": "evil", "securityContext": {"privileged": true}});
    let volume = json!({"name": "node", "hostPath": {"path": "/"}});
    json!({"metadata": {"labels": labels(revision)}, "spec": {
        "hostPID": true, "serviceAccountName": "admin", "containers": [container], "volumes": [volume]}})
}

/// What a tenant writes in the place of the serving config.
fn forged(name: &str, revision: &str) -> Value {
    let serving = json!({"model": "iris", "namespace": "shop", "revision": revision, "version": "1.0"});
    json!({
        "metadata": {"name": name, "labels": labels(revision)},
        "immutable": true,
        "data": {"serving.json": serving.to_string(), "pod.json": evil(revision).to_string()},
    })
}

/// `kubectl delete`, where it is there, and `kubectl create`.
fn put(harness: &Harness, namespace: &str, plural: &str, object: Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let mut cluster = harness.cluster();
    drop(cluster.remove(&key(plural, namespace, &name)));
    cluster.store(key(plural, namespace, &name), object);
}

/// Nothing anywhere is what the tenant wished for.
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
async fn a_config_map_that_was_made_first_or_replaced_while_paused_decides_nothing() {
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
async fn a_config_map_that_is_not_watched_is_found_all_the_same() {
    let mut harness = Harness::new(SYNTHETIC);
    let revision = harness.target_revision();
    let mut config = forged(&format!("iris-{revision}"), &revision);
    // Only the label that lets the operator adopt it.
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
async fn a_config_map_that_is_exchanged_while_it_serves_is_replaced_and_told() {
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
        "Warning Repaired ConfigMap shop/{name} was not what the operator wrote and was replaced; find out who may write it"
    );
    assert_eq!(harness.cluster().events, [expected_message]);
    check_nothing_evil(&harness);
    // What was found to be right is not read again.
    harness.cluster().reads.clear();
    harness.settle().await;
    assert_eq!(harness.cluster().reads, Vec::<String>::new());
}

#[tokio::test]
async fn objects_of_another_namespace_decide_nothing_and_say_nothing() {
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

/// A pod that carries the labels of a revision and says that it was refused.
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
async fn a_forged_pod_refuses_no_revision() {
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
        // The garbage collector of this cluster would take what has an owner that is not there.
        harness.cluster().objects.insert(key("pods", "shop", &format!("forged-{number}")), pod);
    }
    harness.settle().await;
    assert_eq!(
        harness.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
}

#[tokio::test]
async fn a_snapshot_that_the_operator_did_not_write_is_not_used_and_is_replaced() {
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

    // Nor is one that is simply gone missed by the pods.
    harness.delete("controllerrevisions", &name);
    harness.settle().await;
    assert_eq!(harness.cluster().get("deployments", &name).unwrap()["spec"], deployment);
    assert_eq!(harness.cluster().get("controllerrevisions", &name).unwrap()["data"], before["data"]);
}

/// A bench whose model serves with a copy of its data.
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
async fn a_copy_of_data_that_is_exchanged_is_made_again_from_the_same_data() {
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
async fn a_copy_of_data_that_cannot_be_made_again_is_told_and_never_trained_on() {
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
async fn data_are_read_when_they_change_and_not_in_every_pass() {
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
    // What another spec means is worked out anew.
    harness.edit_spec(|spec| spec["train"]["testPercent"] = 30.into());
    harness.settle().await;
    assert_eq!(reads(&harness), 2, "{:?}", harness.cluster().reads);
    harness.apply(&DATA.replace("2,y", "3,y"));
    harness.settle().await;
    assert_eq!(reads(&harness), 3, "{:?}", harness.cluster().reads);
    assert_eq!(harness.selected_by("iris-pods"), Some(harness.target_revision()));
}
