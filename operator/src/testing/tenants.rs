//! A tenant who may write `ConfigMap`s and models, and objects of other namespaces: none of it decides what runs, or
//! changes what another model says of itself.

use serde_json::{Value, json};

use super::bench::{Bench, SYNTHETIC};
use super::statuses::{CSV, DATA};
use super::world::key;

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
fn put(bench: &Bench, namespace: &str, plural: &str, object: Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let mut world = bench.world();
    drop(world.remove(&key(plural, namespace, &name)));
    world.store(key(plural, namespace, &name), object);
}

/// Nothing anywhere is what the tenant wished for.
#[track_caller]
fn check_nothing_evil(bench: &Bench) {
    for plural in ["deployments", "pods", "controllerrevisions"] {
        for object in bench.world().of_kind(plural).filter(|object| object["metadata"]["namespace"] == "shop")
        {
            let text = object.to_string();
            assert!(!text.contains("evil") && !text.contains("hostPID"), "{text}");
        }
    }
}

fn content(bench: &Bench, name: &str) -> Value {
    bench.world().get("configmaps", name).unwrap()["data"].clone()
}

#[tokio::test]
async fn a_config_map_that_was_made_first_or_replaced_while_paused_decides_nothing() {
    let mut untouched = Bench::new(SYNTHETIC);
    untouched.settle().await;
    let revision = untouched.asked();
    let name = format!("iris-{revision}");
    let template = |bench: &Bench| bench.world().get("deployments", &name).unwrap()["spec"].clone();

    let mut bench = Bench::new(SYNTHETIC);
    bench.edit_spec(|spec| spec["paused"] = true.into());
    bench.settle().await;
    put(&bench, "shop", "configmaps", forged(&name, &revision));
    bench.edit_spec(|spec| spec["paused"] = false.into());
    bench.settle().await;
    assert_eq!(template(&bench), template(&untouched));
    assert_eq!(content(&bench, &name), content(&untouched, &name));
    check_nothing_evil(&bench);

    bench.edit_spec(|spec| spec["paused"] = true.into());
    bench.settle().await;
    put(&bench, "shop", "configmaps", forged(&name, &revision));
    bench.delete("deployments", &name);
    bench.edit_spec(|spec| spec["paused"] = false.into());
    bench.settle().await;
    assert_eq!(template(&bench), template(&untouched));
    assert_eq!(content(&bench, &name), content(&untouched, &name));
    check_nothing_evil(&bench);
}

#[tokio::test]
async fn a_config_map_that_is_not_watched_is_found_all_the_same() {
    let mut bench = Bench::new(SYNTHETIC);
    let revision = bench.asked();
    let mut config = forged(&format!("iris-{revision}"), &revision);
    // Only the label that lets the operator adopt it.
    config["metadata"]["labels"] = json!({"canopy.rs/model-uid": UID});
    put(&bench, "shop", "configmaps", config);
    bench.settle().await;
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
    let content = content(&bench, &format!("iris-{revision}"));
    assert_eq!(content["pod.json"], Value::Null);
    assert!(content["serving.json"].as_str().unwrap().contains("randomForest"), "{content}");
    check_nothing_evil(&bench);
}

#[tokio::test]
async fn a_config_map_that_is_exchanged_while_it_serves_is_replaced_and_told() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let revision = bench.asked();
    let name = format!("iris-{revision}");
    let (config, deployment) =
        (content(&bench, &name), bench.world().get("deployments", &name).unwrap()["spec"].clone());
    bench.world().events.clear();
    put(&bench, "shop", "configmaps", forged(&name, &revision));
    bench.settle().await;
    assert_eq!(content(&bench, &name), config);
    assert_eq!(bench.world().get("deployments", &name).unwrap()["spec"], deployment);
    let told = format!(
        "Warning Repaired ConfigMap shop/{name} was not what the operator wrote and was replaced; find out who may write it"
    );
    assert_eq!(bench.world().events, [told]);
    check_nothing_evil(&bench);
    // What was found to be right is not read again.
    bench.world().reads.clear();
    bench.settle().await;
    assert_eq!(bench.world().reads, Vec::<String>::new());
}

#[tokio::test]
async fn objects_of_another_namespace_decide_nothing_and_say_nothing() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.edit_spec(|spec| spec["paused"] = true.into());
    bench.settle().await;
    let revision = bench.asked();
    let name = format!("iris-{revision}");
    put(&bench, "att", "configmaps", forged(&name, &revision));
    let mut snapshot = json!({"metadata": {"name": name, "labels": labels(&revision)}, "revision": 1});
    snapshot["data"] = json!({"serving": "{}", "template": evil(&revision)});
    put(&bench, "att", "controllerrevisions", snapshot);
    let mut deployment = json!({"metadata": {"name": name, "labels": labels(&revision)}});
    deployment["spec"] = json!({"replicas": 7, "template": evil(&revision),
        "selector": {"matchLabels": {"canopy.rs/model-uid": "other"}}});
    put(&bench, "att", "deployments", deployment.clone());
    let mut service = json!({"metadata": {"name": "iris-pods", "labels": labels(&revision)}});
    service["spec"] = json!({"selector": {"canopy.rs/revision": "0badc0de"}});
    put(&bench, "att", "services", service);
    bench.edit_spec(|spec| spec["paused"] = false.into());
    bench.settle().await;
    let ready = format!("Ready True Serving: revision {revision} answers with all 2 pods");
    assert_eq!(bench.conditions()[1], ready);
    check_nothing_evil(&bench);
    assert_eq!(bench.world().objects[&key("deployments", "att", &name)]["spec"], deployment["spec"]);

    for namespace in ["att", "shop"] {
        bench.world().store(key("pods", namespace, "forged"), forged_pod(&revision));
        bench.settle().await;
        assert_eq!(bench.conditions()[1], ready, "{namespace}");
    }
}

/// A pod that carries the labels of a revision and says that it was refused.
fn forged_pod(revision: &str) -> Value {
    let report = json!({"refused": {"code": "gate_missed", "message": "forged"}}).to_string();
    let ended = json!({"terminated": {"exitCode": 0, "message": report}});
    let status = super::world::container("prepare", &ended);
    let mut pod = json!({"metadata": {"name": "forged", "labels": labels(revision)}});
    pod["spec"] = json!({"containers": [{"name": "serve"}], "initContainers": [{"name": "prepare"}]});
    pod["status"] = json!({"initContainerStatuses": [status]});
    pod
}

#[tokio::test]
async fn a_forged_pod_refuses_no_revision() {
    let mut bench = Bench::new(SYNTHETIC);
    let revision = bench.asked();
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
        bench.world().objects.insert(key("pods", "shop", &format!("forged-{number}")), pod);
    }
    bench.settle().await;
    assert_eq!(
        bench.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
}

#[tokio::test]
async fn a_snapshot_that_the_operator_did_not_write_is_not_used_and_is_replaced() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let revision = bench.asked();
    let name = format!("iris-{revision}");
    let before = bench.world().get("controllerrevisions", &name).unwrap().clone();
    let deployment = bench.world().get("deployments", &name).unwrap()["spec"].clone();
    let mut snapshot = before.clone();
    snapshot["data"]["template"] = evil(&revision);
    put(&bench, "shop", "controllerrevisions", snapshot);
    bench.settle().await;
    assert_eq!(bench.world().get("controllerrevisions", &name).unwrap()["data"], before["data"]);
    assert_eq!(bench.world().get("deployments", &name).unwrap()["spec"], deployment);
    check_nothing_evil(&bench);
    assert!(bench.world().events.iter().any(|event| event.contains("ControllerRevision shop/iris-")));

    // Nor is one that is simply gone missed by the pods.
    bench.delete("controllerrevisions", &name);
    bench.settle().await;
    assert_eq!(bench.world().get("deployments", &name).unwrap()["spec"], deployment);
    assert_eq!(bench.world().get("controllerrevisions", &name).unwrap()["data"], before["data"]);
}

/// A bench whose model serves with a copy of its data.
async fn with_data() -> (Bench, String) {
    let mut bench = Bench::new(CSV);
    bench.apply(DATA);
    bench.settle().await;
    let copy = format!("iris-{}-data", bench.asked());
    (bench, copy)
}

fn exchanged(bench: &Bench, copy: &str) -> Value {
    let mut object = bench.world().get("configmaps", copy).unwrap().clone();
    object["metadata"].as_object_mut().unwrap().remove("uid");
    object["data"]["data.csv"] = "a,species\n9,z\n".into();
    object
}

#[tokio::test]
async fn a_copy_of_data_that_is_exchanged_is_made_again_from_the_same_data() {
    let (mut bench, copy) = with_data().await;
    let before = content(&bench, &copy);
    put(&bench, "shop", "configmaps", exchanged(&bench, &copy));
    bench.settle().await;
    assert_eq!(content(&bench, &copy), before);
    bench.delete("configmaps", &copy);
    bench.settle().await;
    assert_eq!(content(&bench, &copy), before);
}

#[tokio::test]
async fn a_copy_of_data_that_cannot_be_made_again_is_told_and_never_trained_on() {
    let (mut bench, copy) = with_data().await;
    let revision = bench.asked();
    bench.delete("configmaps", "iris-data");
    bench.settle().await;
    assert!(bench.conditions()[0].starts_with("Available True Serving"), "{:?}", bench.conditions());
    put(&bench, "shop", "configmaps", exchanged(&bench, &copy));
    bench.settle().await;
    assert!(bench.world().get("configmaps", &copy).is_none(), "other data are left for pods to train on");
    let told = format!("Available True DataCopyLost: revision {revision} answers, but ConfigMap {copy}");
    assert!(bench.conditions()[0].starts_with(&told), "{:?}", bench.conditions());
    assert_eq!(bench.revisions()[&revision], (2, 2));

    bench.apply(DATA);
    bench.settle().await;
    assert!(bench.conditions()[0].starts_with("Available True Serving"), "{:?}", bench.conditions());
    assert_eq!(content(&bench, &copy)["data.csv"], "a,species\n1,x\n2,y\n");
}

#[tokio::test]
async fn data_are_read_when_they_change_and_not_in_every_pass() {
    let (mut bench, _) = with_data().await;
    let reads =
        |bench: &Bench| bench.world().reads.iter().filter(|read| *read == "configmaps iris-data").count();
    assert_eq!(reads(&bench), 1, "{:?}", bench.world().reads);
    for _ in 0..3 {
        bench.pass().await.unwrap();
    }
    bench.edit_spec(|spec| spec["replicas"] = 3.into());
    bench.settle().await;
    assert_eq!(reads(&bench), 1, "{:?}", bench.world().reads);
    // What another spec means is worked out anew.
    bench.edit_spec(|spec| spec["train"]["testPercent"] = 30.into());
    bench.settle().await;
    assert_eq!(reads(&bench), 2, "{:?}", bench.world().reads);
    bench.apply(&DATA.replace("2,y", "3,y"));
    bench.settle().await;
    assert_eq!(reads(&bench), 3, "{:?}", bench.world().reads);
    assert_eq!(bench.selected_by("iris-pods"), Some(bench.asked()));
}
