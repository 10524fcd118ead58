//! The children of a model, as an API server gets them: whoever changes one sees here what users will see.

use serde_json::Value;

use super::bench::{Bench, SYNTHETIC};

/// Everything that the operator made, as YAML, with the serving config and the template as they are stored.
async fn children(manifests: &str) -> String {
    let mut bench = Bench::new(manifests);
    bench.settle().await;
    let world = bench.world();
    let made = world.objects.iter().filter(|((plural, ..), object)| {
        let label = &object["metadata"]["labels"]["app.kubernetes.io/managed-by"];
        plural != "pods" && *label == "canopy-operator"
    });
    let made = made.map(|(_, object)| {
        let mut object = object.clone();
        for by_server in ["creationTimestamp", "generation", "resourceVersion", "uid"] {
            object["metadata"].as_object_mut().unwrap().remove(by_server);
        }
        object.as_object_mut().unwrap().remove("status");
        if let Some(Value::String(pod)) = object["data"].get_mut("pod.json") {
            // It is the template of the Deployment, and would only repeat it.
            *pod = format!("({} bytes)", pod.len());
        }
        serde_saphyr::to_string(&object).unwrap()
    });
    made.collect::<Vec<_>>().join("---\n")
}

#[tokio::test]
async fn a_small_model_gets_pods_two_services_a_budget_and_its_config() {
    insta::assert_snapshot!("small", children(SYNTHETIC).await);
}

#[tokio::test]
async fn a_model_with_everything_gets_everything() {
    insta::assert_snapshot!("everything", children(include_str!("snapshots/everything.yaml")).await);
}
