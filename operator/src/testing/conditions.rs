//! The conditions of a model in each situation.

use serde_json::json;

use super::fake_cluster::{PodBehavior, container};
use super::harness::{Harness, SYNTHETIC};

pub(crate) const CSV: &str = "
apiVersion: canopy.rs/v1alpha1
kind: PredictorModel
metadata: {name: iris, namespace: shop}
spec:
  version: '1.0'
  train:
    data: {csv: {source: {configMap: {name: iris-data, key: iris.csv}}, target: species}}
    algorithm: {randomForest: {}}
  replicas: 2
";
pub(crate) const DATA: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: iris-data}
data: {iris.csv: \"a,species\\n1,x\\n2,y\\n\"}
";

/// Checks the conditions of a new model whose pods behave like this.
#[track_caller]
fn check(behavior: PodBehavior, expected: [&str; 4]) {
    let expected_message = run(async {
        let mut harness = Harness::new(SYNTHETIC);
        harness.set_next_behavior(behavior);
        harness.settle().await;
        harness.conditions().join("\n").replace(&harness.target_revision(), "R")
    });
    assert_eq!(expected_message.lines().collect::<Vec<_>>(), expected);
}

/// Checks the conditions of a serving model whose next revision behaves like this.
#[track_caller]
fn check_after(behavior: PodBehavior, expected: [&str; 4]) {
    let expected_message = run(async {
        let mut harness = Harness::new(SYNTHETIC);
        harness.settle().await;
        let old = harness.target_revision();
        harness.edit_spec(|spec| spec["version"] = "1.1".into());
        harness.set_next_behavior(behavior);
        harness.settle().await;
        harness.conditions().join("\n").replace(&harness.target_revision(), "R").replace(&old, "OLD")
    });
    assert_eq!(expected_message.lines().collect::<Vec<_>>(), expected);
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

const PREPARED: &str = "Prepared True Prepared: revision R was trained on 120 samples in 0.2 s (83120 bytes): Accuracy 0.9667 of 30 samples";
const OLD_ANSWERS: &str = "Available True Serving: revision OLD answers with 2 of 2 pods";

#[test]
fn a_model_that_serves() {
    check(
        PodBehavior::Healthy,
        [
            "Available True Serving: revision R answers with 2 of 2 pods",
            "Ready True Serving: revision R answers with all 2 pods",
            PREPARED,
            "Progressing False Settled: the rollout is complete",
        ],
    );
}

#[test]
fn a_model_that_is_being_trained() {
    const TOLD: &str = "Preparing: revision R is training in the first pod of Deployment iris-R";
    let expected_message = |type_and_status: &str| format!("{type_and_status} {TOLD}");
    let [available, ready, prepared, progressing] =
        ["Available False", "Ready False", "Prepared Unknown", "Progressing True"].map(expected_message);
    check(PodBehavior::TrainsForever, [&available, &ready, &prepared, &progressing]);
    check_after(PodBehavior::TrainsForever, [OLD_ANSWERS, &ready, &prepared, &progressing]);
}

#[test]
fn a_model_whose_pods_do_not_get_ready() {
    check(
        PodBehavior::NeverReady,
        [
            "Available False Starting: 0 of 2 pods of revision R are ready",
            "Ready False Starting: 0 of 2 pods of revision R are ready",
            PREPARED,
            "Progressing True Starting: 0 of 2 pods of revision R are ready",
        ],
    );
}

#[test]
fn a_model_that_is_refused() {
    const TOLD: &str = "False GateMissed: test refusal";
    let [available, ready, prepared, progressing] =
        ["Available", "Ready", "Prepared", "Progressing"].map(|type_| format!("{type_} {TOLD}"));
    check(PodBehavior::Refused("gate_missed"), [&available, &ready, &prepared, &progressing]);
    check_after(PodBehavior::Refused("gate_missed"), [OLD_ANSWERS, &ready, &prepared, &progressing]);
}

#[test]
fn a_model_whose_image_cannot_be_pulled() {
    const TOLD: &str = "False ImageUnavailable: pod iris-R-0 cannot pull image predictor:1: gone; check the operator setting CANOPY_PREDICTOR_IMAGE and the image pull secrets";
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "gone"}});
    let status = json!({"initContainerStatuses": [container("prepare", &waiting)]});
    let [available, ready, prepared, progressing] =
        ["Available", "Ready", "Prepared", "Progressing"].map(|type_| format!("{type_} {TOLD}"));
    check(PodBehavior::HasStatus(status.clone()), [&available, &ready, &prepared, &progressing]);
    check_after(PodBehavior::HasStatus(status), [OLD_ANSWERS, &ready, &prepared, &progressing]);
}

#[test]
fn pods_that_prepared_different_artifacts() {
    check(
        PodBehavior::DifferentArtifacts,
        [
            "Available True Serving: revision R answers with 2 of 2 pods",
            "Ready True Serving: revision R answers with all 2 pods",
            "Prepared True ArtifactsDiffer: pods of revision R prepared different artifacts (000000000000, 111111111111), for example because nodes have different CPUs; check kubectl get pods -o wide",
            "Progressing False Settled: the rollout is complete",
        ],
    );
}

#[tokio::test]
async fn a_model_scaled_to_zero_is_reported() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.edit_spec(|spec| spec["replicas"] = 0.into());
    harness.settle().await;
    let revision = harness.target_revision();
    assert_eq!(
        harness.conditions(),
        [
            "Available False ScaledToZero: spec.replicas is 0; set it to 1 or more to serve",
            "Ready False ScaledToZero: spec.replicas is 0; set it to 1 or more to serve",
            &format!("Prepared True Prepared: revision {revision} was prepared before"),
            "Progressing False ScaledToZero: spec.replicas is 0; set it to 1 or more to serve",
        ]
    );
    let status = harness.model().status.unwrap();
    assert_eq!((status.replicas, status.quality.unwrap().value.as_str()), (0, "0.9667"));
}

#[tokio::test]
async fn a_missing_config_map_is_reported_and_awaited() {
    let mut harness = Harness::new(CSV);
    harness.settle().await;
    let expected_message = "DataUnavailable: spec.train.data.csv.source.configMap.name: there is no ConfigMap iris-data in namespace shop; add it beside the model";
    assert_eq!(
        harness.conditions(),
        ["Available", "Ready", "Prepared", "Progressing"]
            .map(|type_| format!("{type_} False {expected_message}"))
    );
    assert_eq!(harness.cluster().events, [format!("Warning {}", expected_message.replacen(':', "", 1))]);
    harness.apply(DATA);
    harness.settle().await;
    assert_eq!(
        harness.conditions()[1],
        format!("Ready True Serving: revision {} answers with all 2 pods", harness.target_revision())
    );
}

/// The same model with data at a URI.
fn remote() -> String {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    CSV.replace(
        "configMap: {name: iris-data, key: iris.csv}",
        &format!("uri: 'http://data.shop/iris.csv?s=1', sha256: {sha256}"),
    )
}

#[tokio::test]
async fn failed_downloads_are_reported_while_pods_retry() {
    let mut harness = Harness::new(&remote());
    let failed = json!({"failed": {
        "code": "data_unavailable",
        "message": "failed to download http://data.shop/iris.csv: the server responded 404 Not Found: put the file there, or correct uri",
    }});
    let mut status = container("prepare", &json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    status["lastState"] = json!({"terminated": {"exitCode": 1, "message": failed.to_string()}});
    harness.set_next_behavior(PodBehavior::HasStatus(json!({"initContainerStatuses": [status]})));
    harness.settle().await;
    let revision = harness.target_revision();
    let expected_message = format!(
        "DataUnavailable: container prepare of pod iris-{revision}-0 exited with status 1: failed to download \
         http://data.shop/iris.csv: the server responded 404 Not Found: put the file there, or correct uri"
    );
    assert_eq!(
        harness.conditions(),
        ["Available", "Ready", "Prepared", "Progressing"]
            .map(|type_| format!("{type_} False {expected_message}"))
    );
    let event = harness.cluster().events.join("\n");
    assert!(event.contains("DataUnavailable") && event.contains("404 Not Found"), "{event}");
    // The pod is kept for retries; then the file becomes available.
    assert_eq!(harness.revisions()[&revision].0, 1);
    harness.set_next_behavior(PodBehavior::Healthy);
    harness.settle().await;
    assert_eq!(
        harness.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
}

#[tokio::test]
async fn a_digest_mismatch_is_refused_and_a_new_digest_is_tried() {
    let mut harness = Harness::new(&remote());
    harness.set_next_behavior(PodBehavior::Refused("digest_mismatch"));
    harness.settle().await;
    let refused = harness.target_revision();
    assert_eq!(harness.conditions()[1], "Ready False DigestMismatch: test refusal");
    assert_eq!(harness.revisions(), [(refused.clone(), (0, 0))].into());
    assert!(
        harness.cluster().get("configmaps", &format!("iris-{refused}-data")).is_none(),
        "there is no copy"
    );

    harness.edit_spec(|spec| spec["train"]["data"]["csv"]["source"]["sha256"] = "0".repeat(64).into());
    harness.settle().await;
    let revision = harness.target_revision();
    assert_ne!(revision, refused);
    assert_eq!(
        harness.conditions()[1],
        format!("Ready True Serving: revision {revision} answers with all 2 pods")
    );
    let cluster = harness.cluster();
    let config = cluster.get("configmaps", &format!("iris-{revision}")).unwrap();
    let serving: serde_json::Value =
        serde_json::from_str(config["data"]["serving.json"].as_str().unwrap()).unwrap();
    let download = &serving["train"]["data"]["csv"]["source"]["download"];
    assert_eq!(download["uri"], "http://data.shop/iris.csv?s=1");
}

#[tokio::test]
async fn edited_data_are_a_new_revision_and_deleted_data_keep_the_serving_one() {
    let mut harness = Harness::new(CSV);
    harness.apply(DATA);
    harness.settle().await;
    let old = harness.target_revision();
    harness.apply(&DATA.replace("2,y", "3,y"));
    harness.settle().await;
    let new = harness.target_revision();
    assert_eq!(harness.selected_by("iris-pods"), Some(new.clone()));
    let copied = |revision: &str| {
        let cluster = harness.cluster();
        let copy = cluster.get("configmaps", &format!("iris-{revision}-data")).unwrap();
        copy["data"]["data.csv"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (copied(&old).as_str(), copied(&new).as_str()),
        ("a,species\n1,x\n2,y\n", "a,species\n1,x\n3,y\n")
    );

    harness.delete("configmaps", "iris-data");
    harness.settle().await;
    assert!(harness.conditions()[0].starts_with("Available True"), "{:?}", harness.conditions());
    assert!(harness.conditions()[1].starts_with("Ready False DataUnavailable"), "{:?}", harness.conditions());
    assert_eq!(harness.revisions()[&new], (2, 2));
}

#[tokio::test]
async fn conditions_have_a_generation_and_change_their_time_only_with_their_status() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let times = |harness: &Harness| -> Vec<_> {
        let conditions = harness.model().status.unwrap().conditions;
        conditions.iter().map(|c| (c.type_.clone(), c.last_transition_time.clone())).collect()
    };
    let before = times(&harness);
    harness.cluster().advance_time(100);
    harness.edit("predictormodels", "iris", |model| model["spec"]["retireSeconds"] = 5.into());
    harness.settle().await;
    assert_eq!(times(&harness), before);
    for condition in harness.model().status.unwrap().conditions {
        assert_eq!(condition.observed_generation, Some(2), "{}", condition.type_);
    }
    harness.edit_spec(|spec| spec["replicas"] = 0.into());
    harness.settle().await;
    let after = times(&harness);
    assert_ne!(after[1], before[1], "Ready is another");
    assert_eq!(after[2], before[2], "Prepared is not");
}
