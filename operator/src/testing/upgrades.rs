//! Revisions that an earlier operator made: it named them by the spelling of the spec, and kept the pod template in the
//! `ConfigMap`.

use canopy_resource::manifest::ConfigMaps;
use serde_json::{Value, json};

use super::bench::{Bench, SYNTHETIC};
use super::statuses::{CSV, DATA};
use super::world::Fate;

/// A bench as an operator of Canopy 0.1 left it: what the operator of today made, called and written as then.
async fn earlier(manifest: &str) -> (Bench, String) {
    let mut bench = Bench::new(manifest);
    bench.apply(DATA);
    bench.settle().await;
    let (new, old) = (bench.asked(), legacy(&bench));
    let mut world = bench.world();
    let objects = std::mem::take(&mut world.objects);
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
        world.objects.insert((kind, namespace, name.replace(&new, &old)), object);
    }
    let deployment = world.get("deployments", &format!("iris-{old}")).unwrap().clone();
    let key = super::world::key("configmaps", "shop", &format!("iris-{old}"));
    let config = world.objects.get_mut(&key).unwrap();
    config["data"]["pod.json"] = deployment["spec"]["template"].to_string().into();
    drop(world);
    bench.restart_operator("predictor:2");
    (bench, old)
}

fn without_digests(pod: &mut Value) {
    for containers in ["containers", "initContainers"] {
        let containers = pod.get_mut(containers).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            drop(container.as_object_mut().unwrap().remove("env"));
        }
    }
}

/// The name that Canopy 0.1 gave to the revision that is asked for.
fn legacy(bench: &Bench) -> String {
    let mut data = ConfigMaps::default();
    for config_map in bench.world().of_kind("configmaps") {
        data.add(serde_json::from_value(config_map.clone()).unwrap()).unwrap();
    }
    crate::spec::Meant::new(&bench.model(), &data).unwrap().legacy
}

fn uids(bench: &Bench, plural: &str) -> Vec<Value> {
    bench.world().of_kind(plural).map(|object| object["metadata"]["uid"].clone()).collect()
}

#[tokio::test]
async fn what_serves_keeps_its_name_and_its_pods_and_is_written_down() {
    for manifest in [SYNTHETIC, CSV] {
        let (mut bench, old) = earlier(manifest).await;
        let (pods, config_maps) = (uids(&bench, "pods"), uids(&bench, "configmaps"));
        let deployment = bench.world().get("deployments", &format!("iris-{old}")).unwrap()["spec"].clone();
        bench.world().writes.clear();
        bench.settle().await;
        assert_eq!(bench.revisions(), [(old.clone(), (2, 2))].into());
        assert_eq!((uids(&bench, "pods"), uids(&bench, "configmaps")), (pods, config_maps));
        assert_eq!(bench.world().get("deployments", &format!("iris-{old}")).unwrap()["spec"], deployment);
        assert_eq!(bench.world().writes, [format!("apply controllerrevisions iris-{old}")]);
        let snapshot = bench.world().get("controllerrevisions", &format!("iris-{old}")).unwrap().clone();
        assert_eq!(snapshot["data"]["template"], deployment["template"]);
        bench.tells_of_no_repair();

        // The same in other words is no change; something else is, and is named anew.
        bench.edit_spec(|spec| {
            spec["train"]["deadlineSeconds"] = 30.into();
            spec["train"]["standardize"] = true.into();
            spec["train"]["algorithm"] = json!({"randomForest": {"trees": 100}});
        });
        bench.settle().await;
        assert_eq!(bench.revisions(), [(old.clone(), (2, 2))].into());
        bench.edit_spec(|spec| spec["version"] = "1.1".into());
        bench.settle().await;
        assert_eq!(bench.selected_by("iris"), Some(bench.asked()));
        assert_eq!(bench.revisions()[&old], (2, 2));

        // While it is there, what was replaced can be returned to.
        bench.edit_spec(|spec| spec["version"] = "1.0".into());
        bench.settle().await;
        assert_eq!(bench.selected_by("iris"), Some(old.clone()));
    }
}

#[tokio::test]
async fn a_template_in_a_config_map_is_not_read_any_more() {
    let (mut bench, old) = earlier(SYNTHETIC).await;
    let name = format!("iris-{old}");
    let deployment = bench.world().get("deployments", &name).unwrap()["spec"].clone();
    bench.edit("configmaps", &name, |config| {
        config["data"]["pod.json"] = "{\"spec\": {\"hostPID\": true}}".into();
    });
    bench.settle().await;
    assert_eq!(bench.world().get("deployments", &name).unwrap()["spec"], deployment);
    // Not even where the Deployment is gone as well: the spec is what it is made from again.
    let (mut bench, _) = earlier(SYNTHETIC).await;
    bench.edit("configmaps", &name, |config| {
        config["data"]["pod.json"] = "{\"spec\": {\"hostPID\": true}}".into();
    });
    bench.delete("deployments", &name);
    bench.settle().await;
    let deployment = bench.world().get("deployments", &name).unwrap()["spec"].clone();
    assert!(!deployment.to_string().contains("hostPID"), "{deployment}");
    assert_eq!(bench.revisions(), [(old, (2, 2))].into());
}

#[tokio::test]
async fn a_deployment_with_more_than_an_operator_sets_is_not_adopted() {
    let (mut bench, old) = earlier(SYNTHETIC).await;
    let name = format!("iris-{old}");
    bench.edit("deployments", &name, |deployment| {
        deployment["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    });
    bench.settle().await;
    let pod = bench.world().get("deployments", &name).unwrap()["spec"]["template"]["spec"].clone();
    assert_eq!((&pod["hostNetwork"], &pod["containers"][0]["image"]), (&Value::Null, &json!("predictor:2")));
}

#[tokio::test]
async fn a_label_of_an_old_config_map_is_repaired_though_it_is_immutable() {
    let (mut bench, old) = earlier(SYNTHETIC).await;
    let name = format!("iris-{old}");
    bench.settle().await;
    bench.edit("configmaps", &name, |config| config["metadata"]["labels"]["canopy.rs/revision"] = "".into());
    bench.settle().await;
    let config = bench.world().get("configmaps", &name).unwrap().clone();
    assert_eq!(config["metadata"]["labels"]["canopy.rs/revision"], *old);
    assert_eq!(config["data"]["pod.json"], Value::Null);
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
}

#[tokio::test]
async fn a_watch_that_lags_behind_does_not_make_a_revision_look_like_an_earlier_operators() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.pass().await.unwrap();
    bench.watch(&["deployments", "configmaps"]);
    bench.pass_without_watching().await.unwrap();
    bench.settle().await;
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
    assert_eq!(bench.world().of_kind("controllerrevisions").count(), 1);
}

#[tokio::test]
async fn two_spellings_of_a_spec_are_one_revision() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let revision = bench.asked();
    bench.edit_spec(|spec| {
        spec["train"]["algorithm"] = json!({"randomForest": {"trees": 100}});
        spec["train"]["deadlineSeconds"] = 30.into();
    });
    bench.settle().await;
    assert_eq!(bench.revisions(), [(revision, (2, 2))].into());
}

#[tokio::test]
async fn training_that_missed_its_deadline_is_tried_again_with_another() {
    let mut bench =
        Bench::new(&SYNTHETIC.replace("{randomForest: {}}", "{randomForest: {}}, deadlineSeconds: 30"));
    bench.fate_of_next(Fate::Slow);
    bench.settle().await;
    bench.world().wait(30);
    bench.settle().await;
    let revision = bench.asked();
    assert_eq!(bench.revisions(), [(revision.clone(), (0, 0))].into());
    bench.fate_of_next(Fate::Good);
    bench.edit_spec(|spec| spec["train"]["deadlineSeconds"] = 60.into());
    bench.settle().await;
    assert_eq!(bench.revisions(), [(revision, (2, 2))].into());
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
}

#[tokio::test]
async fn a_revision_that_never_served_is_not_said_to_serve() {
    for fate in [Fate::Slow, Fate::Unready, Fate::Refused("gate_missed")] {
        let mut bench = Bench::new(SYNTHETIC);
        bench.fate_of_next(fate.clone());
        bench.settle().await;
        let status = bench.model().status.unwrap();
        assert_eq!((status.revision, status.version, status.artifact), (None, None, None), "{fate:?}");
        assert!(status.selector.is_some(), "what scales the model counts the pods that there are");
    }
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let revision = bench.asked();
    bench.edit_spec(|spec| spec["replicas"] = 0.into());
    bench.settle().await;
    let status = bench.model().status.unwrap();
    assert_eq!((status.revision, status.version), (Some(revision), Some("1.0".to_owned())));
}

#[tokio::test]
async fn what_an_orphaning_delete_left_is_told_with_the_command_that_removes_it() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    for object in bench.world().objects.values_mut() {
        drop(object["metadata"].as_object_mut().unwrap().remove("ownerReferences"));
    }
    bench.delete("predictormodels", "iris");
    bench.apply(SYNTHETIC);
    bench.settle().await;
    let told = "--cascade=orphan); delete what it left: kubectl delete deployments,services,configmaps,controllerrevisions,poddisruptionbudgets --namespace shop --selector canopy.rs/model-uid=uid-predictormodels-iris";
    assert!(bench.conditions()[1].ends_with(told), "{:?}", bench.conditions());
}
