//! Revisions of earlier versions, which named them by the spelling of the spec and stored the pod template in the
//! `ConfigMap`.

use canopy_resource::manifest::ConfigMaps;
use serde_json::{Value, json};

use super::conditions::{CSV, DATA};
use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};

/// A cluster as Canopy 0.1 left it: objects of this version, renamed and rewritten.
async fn earlier(manifest: &str) -> (Harness, String) {
    let mut harness = Harness::new(manifest);
    harness.apply(DATA);
    harness.settle().await;
    let (new, old) = (harness.target_revision(), legacy_name(&harness));
    let mut cluster = harness.cluster();
    let objects = std::mem::take(&mut cluster.objects);
    for ((kind, namespace, name), object) in objects {
        if kind == "controllerrevisions" {
            continue;
        }
        let mut object: Value = serde_json::from_str(&object.to_string().replace(&new, &old)).unwrap();
        for pod in ["/spec/template/spec", "/spec"] {
            if let Some(pod) = object.pointer_mut(pod) {
                without_digests(pod);
            }
        }
        cluster.objects.insert((kind, namespace, name.replace(&new, &old)), object);
    }
    let deployment = cluster.get("deployments", &format!("iris-{old}")).unwrap().clone();
    let key = super::fake_cluster::key("configmaps", "shop", &format!("iris-{old}"));
    let config = cluster.objects.get_mut(&key).unwrap();
    config["data"]["pod.json"] = deployment["spec"]["template"].to_string().into();
    drop(cluster);
    harness.restart_operator("predictor:2");
    (harness, old)
}

fn without_digests(pod: &mut Value) {
    for containers in ["containers", "initContainers"] {
        let containers = pod.get_mut(containers).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            drop(container.as_object_mut().unwrap().remove("env"));
        }
    }
}

/// The name that Canopy 0.1 gave to the target revision.
fn legacy_name(harness: &Harness) -> String {
    let mut data = ConfigMaps::default();
    for config_map in harness.cluster().of_kind("configmaps") {
        data.add(serde_json::from_value(config_map.clone()).unwrap()).unwrap();
    }
    crate::spec::ResolvedSpec::new(&harness.model(), &data).unwrap().legacy_name
}

fn uids(harness: &Harness, plural: &str) -> Vec<Value> {
    harness.cluster().of_kind(plural).map(|object| object["metadata"]["uid"].clone()).collect()
}

#[tokio::test]
async fn a_revision_of_an_earlier_version_keeps_name_and_pods_and_gets_a_snapshot() {
    for manifest in [SYNTHETIC, CSV] {
        let (mut harness, old) = earlier(manifest).await;
        let (pods, config_maps) = (uids(&harness, "pods"), uids(&harness, "configmaps"));
        let deployment =
            harness.cluster().get("deployments", &format!("iris-{old}")).unwrap()["spec"].clone();
        harness.cluster().writes.clear();
        harness.settle().await;
        assert_eq!(harness.revisions(), [(old.clone(), (2, 2))].into());
        assert_eq!((uids(&harness, "pods"), uids(&harness, "configmaps")), (pods, config_maps));
        assert_eq!(harness.cluster().get("deployments", &format!("iris-{old}")).unwrap()["spec"], deployment);
        assert_eq!(harness.cluster().writes, [format!("apply controllerrevisions iris-{old}")]);
        let controller_revision =
            harness.cluster().get("controllerrevisions", &format!("iris-{old}")).unwrap().clone();
        assert_eq!(controller_revision["data"]["template"], deployment["template"]);
        harness.assert_no_repair_event();

        // An equivalent spec is no change; another spec is a new revision.
        harness.edit_spec(|spec| {
            spec["train"]["deadlineSeconds"] = 30.into();
            spec["train"]["standardize"] = true.into();
            spec["train"]["algorithm"] = json!({"randomForest": {"trees": 100}});
        });
        harness.settle().await;
        assert_eq!(harness.revisions(), [(old.clone(), (2, 2))].into());
        harness.edit_spec(|spec| spec["version"] = "1.1".into());
        harness.settle().await;
        assert_eq!(harness.selected_by("iris"), Some(harness.target_revision()));
        assert_eq!(harness.revisions()[&old], (2, 2));

        // A rollback to the replaced revision is possible while it is kept.
        harness.edit_spec(|spec| spec["version"] = "1.0".into());
        harness.settle().await;
        assert_eq!(harness.selected_by("iris"), Some(old.clone()));
    }
}

#[tokio::test]
async fn a_pod_template_in_a_config_map_is_ignored() {
    let (mut harness, old) = earlier(SYNTHETIC).await;
    let name = format!("iris-{old}");
    let deployment = harness.cluster().get("deployments", &name).unwrap()["spec"].clone();
    harness.edit("configmaps", &name, |config| {
        config["data"]["pod.json"] = "{\"spec\": {\"hostPID\": true}}".into();
    });
    harness.settle().await;
    assert_eq!(harness.cluster().get("deployments", &name).unwrap()["spec"], deployment);
    // This also holds if the Deployment is gone: then the spec decides.
    let (mut harness, _) = earlier(SYNTHETIC).await;
    harness.edit("configmaps", &name, |config| {
        config["data"]["pod.json"] = "{\"spec\": {\"hostPID\": true}}".into();
    });
    harness.delete("deployments", &name);
    harness.settle().await;
    let deployment = harness.cluster().get("deployments", &name).unwrap()["spec"].clone();
    assert!(!deployment.to_string().contains("hostPID"), "{deployment}");
    assert_eq!(harness.revisions(), [(old, (2, 2))].into());
}

#[tokio::test]
async fn a_deployment_with_additional_fields_is_not_adopted() {
    let (mut harness, old) = earlier(SYNTHETIC).await;
    let name = format!("iris-{old}");
    harness.edit("deployments", &name, |deployment| {
        deployment["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    });
    harness.settle().await;
    let pod = harness.cluster().get("deployments", &name).unwrap()["spec"]["template"]["spec"].clone();
    assert_eq!((&pod["hostNetwork"], &pod["containers"][0]["image"]), (&Value::Null, &json!("predictor:2")));
}

#[tokio::test]
async fn labels_of_an_immutable_config_map_are_repaired() {
    let (mut harness, old) = earlier(SYNTHETIC).await;
    let name = format!("iris-{old}");
    harness.settle().await;
    harness
        .edit("configmaps", &name, |config| config["metadata"]["labels"]["canopy.rs/revision"] = "".into());
    harness.settle().await;
    let config = harness.cluster().get("configmaps", &name).unwrap().clone();
    assert_eq!(config["metadata"]["labels"]["canopy.rs/revision"], *old);
    assert_eq!(config["data"]["pod.json"], Value::Null);
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
}

#[tokio::test]
async fn a_lagging_watch_does_not_cause_adoption() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.reconcile().await.unwrap();
    harness.watch(&["deployments", "configmaps"]);
    harness.reconcile_without_watch_events().await.unwrap();
    harness.settle().await;
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
    assert_eq!(harness.cluster().of_kind("controllerrevisions").count(), 1);
}

#[tokio::test]
async fn equivalent_specs_are_one_revision() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let revision = harness.target_revision();
    harness.edit_spec(|spec| {
        spec["train"]["algorithm"] = json!({"randomForest": {"trees": 100}});
        spec["train"]["deadlineSeconds"] = 30.into();
    });
    harness.settle().await;
    assert_eq!(harness.revisions(), [(revision, (2, 2))].into());
}

#[tokio::test]
async fn a_changed_deadline_retries_training() {
    let mut harness =
        Harness::new(&SYNTHETIC.replace("{randomForest: {}}", "{randomForest: {}}, deadlineSeconds: 30"));
    harness.set_next_behavior(PodBehavior::TrainsForever);
    harness.settle().await;
    harness.cluster().advance_time(30);
    harness.settle().await;
    let revision = harness.target_revision();
    assert_eq!(harness.revisions(), [(revision.clone(), (0, 0))].into());
    harness.set_next_behavior(PodBehavior::Healthy);
    harness.edit_spec(|spec| spec["train"]["deadlineSeconds"] = 60.into());
    harness.settle().await;
    assert_eq!(harness.revisions(), [(revision, (2, 2))].into());
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
}

#[tokio::test]
async fn a_revision_that_never_served_is_not_in_the_status() {
    for behavior in [PodBehavior::TrainsForever, PodBehavior::NeverReady, PodBehavior::Refused("gate_missed")]
    {
        let mut harness = Harness::new(SYNTHETIC);
        harness.set_next_behavior(behavior.clone());
        harness.settle().await;
        let status = harness.model().status.unwrap();
        assert_eq!((status.revision, status.version, status.artifact), (None, None, None), "{behavior:?}");
        assert!(status.selector.is_some(), "what scales the model counts the pods that there are");
    }
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let revision = harness.target_revision();
    harness.edit_spec(|spec| spec["replicas"] = 0.into());
    harness.settle().await;
    let status = harness.model().status.unwrap();
    assert_eq!((status.revision, status.version), (Some(revision), Some("1.0".to_owned())));
}

#[tokio::test]
async fn orphaned_objects_are_reported_with_a_command_to_delete_them() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    for object in harness.cluster().objects.values_mut() {
        drop(object["metadata"].as_object_mut().unwrap().remove("ownerReferences"));
    }
    harness.delete("predictormodels", "iris");
    harness.apply(SYNTHETIC);
    harness.settle().await;
    let expected_message = "--cascade=orphan; delete its objects: kubectl delete deployments,services,configmaps,controllerrevisions,poddisruptionbudgets --namespace shop --selector canopy.rs/model-uid=uid-predictormodels-iris";
    assert!(harness.conditions()[1].ends_with(expected_message), "{:?}", harness.conditions());
}
