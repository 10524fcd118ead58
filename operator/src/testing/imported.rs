//! Models from files: the copy of their files, their pods, and their status.

use canopy_resource::digest::sha256;
use serde_json::{Value, json};

use super::fake_cluster::PodBehavior;
use super::harness::Harness;

const MODEL: &str = "
apiVersion: canopy.rs/v1alpha1
kind: PredictorModel
metadata: {name: iris, namespace: shop}
spec:
  version: '1.0'
  artifact: {source: {configMap: {name: iris-model, key: iris.onnx}}}
  evaluate: {data: {csv: {source: {configMap: {name: iris-rows, key: rows.csv}}, target: species}}}
  resources: {limits: {memory: 64Mi}}
  replicas: 2
";
/// The base64 text is the bytes `00 ff`, which are not UTF-8.
const FILE: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: iris-model}
binaryData: {iris.onnx: AP8=}
";
const ROWS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: iris-rows}
data: {rows.csv: \"a,species\\n1,x\\n\"}
";

/// A harness whose model serves.
async fn serving() -> Harness {
    let mut harness = Harness::new(MODEL);
    harness.apply(FILE);
    harness.apply(ROWS);
    harness.settle().await;
    harness
}

fn copy_name(harness: &Harness) -> String {
    format!("iris-{}-data", harness.target_revision())
}

fn copy(harness: &Harness) -> Value {
    let name = copy_name(harness);
    harness.cluster().get("configmaps", &name).unwrap().clone()
}

/// The pod spec of the target revision.
fn pod(harness: &Harness) -> Value {
    let name = format!("iris-{}", harness.target_revision());
    harness.cluster().get("deployments", &name).unwrap()["spec"]["template"]["spec"].clone()
}

fn check_condition(harness: &Harness, index: usize, expected: &str) {
    let found = harness.conditions()[index].replace(&harness.target_revision(), "R");
    assert!(found.starts_with(expected), "{expected:?} is expected, got {found:?}");
}

/// Replaces the copy by one with another uid.
fn exchange(harness: &Harness, edit: impl FnOnce(&mut Value)) {
    let mut object = copy(harness);
    object["metadata"].as_object_mut().unwrap().remove("uid");
    edit(&mut object);
    let name = copy_name(harness);
    harness.delete("configmaps", &name);
    harness.cluster().store(super::fake_cluster::key("configmaps", "shop", &name), object);
}

#[tokio::test]
async fn the_model_file_and_the_evaluation_data_are_copied_and_their_digests_are_in_the_template() {
    let harness = serving().await;
    check_condition(&harness, 1, "Ready True Serving");
    let copy = copy(&harness);
    assert_eq!(copy["immutable"], true);
    assert_eq!(copy["binaryData"], json!({"model": "AP8="}));
    assert_eq!(copy["data"], json!({"evaluate.csv": "a,species\n1,x\n"}));

    let pod = pod(&harness);
    let prepare = &pod["initContainers"][0];
    let digests = format!("{},{}", sha256([0, 0xff]), sha256("a,species\n1,x\n"));
    assert_eq!(prepare["env"][1], json!({"name": "CANOPY_DATA_SHA256", "value": digests}));
    assert_eq!(prepare["resources"], json!({"limits": {"memory": "64Mi"}}));
    assert_eq!(prepare["resources"], pod["containers"][0]["resources"]);
    assert_eq!(pod["volumes"][2]["configMap"]["name"], copy["metadata"]["name"]);
}

#[tokio::test]
async fn a_model_without_an_evaluation_has_no_quality() {
    let mut harness = Harness::new(MODEL);
    harness.edit_spec(|spec| drop(spec.as_object_mut().unwrap().remove("evaluate")));
    harness.apply(FILE);
    harness.set_next_behavior(PodBehavior::HasNoQuality);
    harness.settle().await;
    let revision = harness.target_revision();
    assert_eq!(
        harness.conditions()[2],
        format!(
            "Prepared True Prepared: revision {revision} was read from its file in 0.2 s (83120 bytes): not evaluated"
        )
    );
    let status = harness.model().status.unwrap();
    assert_eq!((status.quality, status.artifact.unwrap().bytes), (None, 83120));

    // The next revision is evaluated, and the one after it is not.
    harness.apply(ROWS);
    harness.apply(MODEL);
    harness.settle().await;
    assert_eq!(harness.model().status.unwrap().quality.unwrap().value, "0.9667");
    harness.edit_spec(|spec| drop(spec.as_object_mut().unwrap().remove("evaluate")));
    harness.settle().await;
    assert_eq!(harness.model().status.unwrap().quality, None);
}

#[tokio::test]
async fn an_edit_of_any_of_its_files_makes_a_new_revision() {
    let mut harness = serving().await;
    let first = harness.target_revision();
    harness.apply(&FILE.replace("AP8=", "AP4="));
    harness.settle().await;
    let second = harness.target_revision();
    harness.apply(&ROWS.replace("1,x", "2,x"));
    harness.settle().await;
    let third = harness.target_revision();
    assert!(first != second && second != third && first != third);
    assert_eq!(harness.selected_by("iris-pods"), Some(third));
    assert_eq!(copy(&harness)["binaryData"], json!({"model": "AP4="}));

    // Files that do not change are not read again.
    harness.cluster().reads.clear();
    harness.edit_spec(|spec| spec["replicas"] = 3.into());
    harness.settle().await;
    let reads = harness.cluster().reads.clone();
    assert!(!reads.iter().any(|read| read.contains("iris-model") || read.contains("iris-rows")), "{reads:?}");
}

#[tokio::test]
async fn a_missing_file_is_reported_until_it_exists() {
    let mut harness = Harness::new(MODEL);
    harness.settle().await;
    let missing = |source: &str, name: &str| {
        format!(
            "Ready False DataUnavailable: spec.{source}.source.configMap.name: there is no ConfigMap {name} in namespace shop"
        )
    };
    assert!(
        harness.conditions()[1].starts_with(&missing("artifact", "iris-model")),
        "{:?}",
        harness.conditions()
    );
    harness.apply(FILE);
    harness.settle().await;
    let expected = missing("evaluate.data.csv", "iris-rows");
    assert!(harness.conditions()[1].starts_with(&expected), "{:?}", harness.conditions());
    harness.apply(ROWS);
    harness.settle().await;
    check_condition(&harness, 1, "Ready True Serving");
}

#[tokio::test]
async fn files_that_do_not_fit_into_one_config_map_are_a_fault_of_the_spec() {
    let mut harness = Harness::new(MODEL);
    harness.apply(FILE);
    harness.apply(&ROWS.replace("1,x", &"1,x\\n".repeat(262_144)));
    harness.settle().await;
    let conditions = harness.conditions();
    assert!(
        conditions[1].starts_with(
            "Ready False SpecInvalid: spec.evaluate.data.csv.source: the files of the model have"
        ),
        "{conditions:?}"
    );
}

#[tokio::test]
async fn a_refused_file_and_a_wrong_example_have_reasons_of_their_own() {
    for (code, reason) in [("model_invalid", "ModelInvalid"), ("example_mismatch", "ExampleMismatch")] {
        let mut harness = serving().await;
        let first = harness.target_revision();
        harness.apply(&FILE.replace("AP8=", "AP4="));
        harness.set_next_behavior(PodBehavior::Refused(code));
        harness.settle().await;
        check_condition(&harness, 0, "Available True Serving");
        check_condition(&harness, 1, &format!("Ready False {reason}: test refusal"));
        assert_eq!(harness.selected_by("iris-pods"), Some(first));
    }
}

#[tokio::test]
async fn a_model_file_that_takes_too_long_is_refused_with_the_fields_to_change() {
    let mut harness = Harness::new(MODEL);
    harness.apply(FILE);
    harness.apply(ROWS);
    harness.set_next_behavior(PodBehavior::TrainsForever);
    harness.settle().await;
    check_condition(
        &harness,
        1,
        "Ready False Preparing: revision R is read from its file in the first pod of",
    );
    harness.cluster().now += jiff::SignedDuration::from_secs(601);
    harness.settle().await;
    let expected = "Ready False DeadlineExceeded: pod iris-R-0 did not read the model file within 600 s: raise spec.resources";
    check_condition(&harness, 1, expected);
}

/// Tenants may write `ConfigMap`s.
#[tokio::test]
async fn an_exchanged_copy_is_recreated_from_its_sources() {
    let mut harness = serving().await;
    let (before, template) = (copy(&harness), pod(&harness));
    let forgeries: [fn(&mut Value); 4] = [
        |copy| copy["binaryData"]["model"] = "AP4=".into(),
        |copy| copy["data"]["evaluate.csv"] = "a,species\n2,x\n".into(),
        |copy| copy["data"]["more"] = "text".into(),
        |copy| {
            copy["binaryData"] = Value::Null;
            copy["data"]["model"] = "another".into();
        },
    ];
    for forgery in forgeries {
        harness.cluster().events.clear();
        exchange(&harness, forgery);
        harness.settle().await;
        let after = copy(&harness);
        assert_eq!((&after["data"], &after["binaryData"]), (&before["data"], &before["binaryData"]));
        let events = harness.cluster().events.clone();
        assert!(events.iter().any(|event| event.contains("Warning Repaired ConfigMap")), "{events:?}");
    }
    assert_eq!(pod(&harness), template);
}

#[tokio::test]
async fn a_lost_copy_is_reported_and_a_forged_one_is_never_used() {
    let mut harness = serving().await;
    let name = copy_name(&harness);
    exchange(&harness, |copy| copy["binaryData"]["model"] = "AP4=".into());
    harness.delete("configmaps", "iris-model");
    let revision = harness.selected_by("iris-pods").unwrap();
    harness.settle().await;
    assert!(harness.cluster().get("configmaps", &name).is_none(), "another model file is left for pods");
    let expected = format!("Available True DataCopyLost: revision {revision} answers, but ConfigMap {name}");
    assert!(harness.conditions()[0].starts_with(&expected), "{:?}", harness.conditions());

    harness.apply(FILE);
    harness.settle().await;
    assert_eq!(copy(&harness)["binaryData"], json!({"model": "AP8="}));
    check_condition(&harness, 0, "Available True Serving");
}

#[tokio::test]
async fn a_restart_of_the_operator_changes_nothing() {
    let mut harness = serving().await;
    let stored = |harness: &Harness| {
        let name = format!("iris-{}", harness.target_revision());
        harness.cluster().get("controllerrevisions", &name).unwrap()["data"].clone()
    };
    let data = stored(&harness);
    assert_eq!(
        (&data["data"]["file"], &data["moreData"][0]["file"]),
        (&json!("model"), &json!("evaluate.csv"))
    );
    harness.cluster().writes.clear();
    harness.restart_operator("predictor:2");
    harness.settle().await;
    assert_eq!(stored(&harness), data);
    assert_eq!(harness.cluster().writes, Vec::<String>::new());
    harness.assert_no_repair_event();
}
