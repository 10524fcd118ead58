//! Cluster-wide settings in the pods of all models.

use serde_json::{Value, json};

use super::harness::{Harness, SYNTHETIC};
use crate::pod::template::PredictorRuntime;

/// The pod spec of the target revision.
fn template(harness: &Harness) -> Value {
    let name = format!("iris-{}", harness.target_revision());
    harness.cluster().get("deployments", &name).unwrap()["spec"]["template"]["spec"].clone()
}

#[tokio::test]
async fn defaults_limit_training_memory_and_disk() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let pod = template(&harness);
    let small = json!({"cpu": "10m", "memory": "32Mi"});
    let training = &pod["initContainers"][0]["resources"];
    assert_eq!(*training, json!({"requests": small, "limits": {"memory": "2Gi"}}));
    assert_eq!(pod["containers"][0]["resources"], json!({"requests": small}));
    let volumes = pod["volumes"].as_array().unwrap();
    let model = volumes.iter().find(|volume| volume["name"] == "model").unwrap();
    assert_eq!(model["emptyDir"], json!({"sizeLimit": "4Gi"}));
    assert_eq!(pod["imagePullSecrets"], Value::Null);
}

#[tokio::test]
async fn changed_defaults_apply_to_new_revisions_and_restart_no_pod() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let before = template(&harness);
    let default_resources =
        r#"{"prepare": {"limits": {"memory": "8Gi"}}, "serve": {"requests": {"cpu": "1"}}}"#;
    harness.restart_operator_with_runtime(PredictorRuntime {
        image: "predictor:1".to_owned(),
        pull_secrets: vec!["registry".to_owned()],
        default_resources: default_resources.parse().unwrap(),
        ..PredictorRuntime::default()
    });
    harness.settle().await;
    assert_eq!(template(&harness), before);

    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    let pod = template(&harness);
    assert_eq!(pod["initContainers"][0]["resources"], json!({"limits": {"memory": "8Gi"}}));
    assert_eq!(pod["containers"][0]["resources"], json!({"requests": {"cpu": "1"}}));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));

    harness.edit_spec(|spec| spec["train"]["resources"] = json!({"requests": {"memory": "1Gi"}}));
    harness.settle().await;
    let own = &template(&harness)["initContainers"][0]["resources"];
    assert_eq!(
        *own,
        json!({"requests": {"memory": "1Gi"}}),
        "the resources of the model replace the defaults"
    );
}
