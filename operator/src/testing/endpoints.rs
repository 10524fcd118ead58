//! Ready pods that gateways cannot discover, because the controllers that write `EndpointSlices` are dead or slow.

use std::time::Duration;

use serde_json::Value;

use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};

const SLICE: &str = "iris-pods-x7k2p";
const REASON: &str = "NoEndpoints";

/// Advances time, then reconciles until nothing changes.
async fn wait(harness: &mut Harness, seconds: i64) {
    harness.cluster().advance_time(seconds);
    harness.settle().await;
}

/// Status and reason of the conditions Available and Ready.
fn conditions(harness: &Harness) -> [String; 2] {
    let conditions = harness.conditions();
    let first = |line: &String| line.split(':').next().unwrap().to_owned();
    [first(&conditions[0]), first(&conditions[1])]
}

fn serving() -> [String; 2] {
    ["Available True Serving".to_owned(), "Ready True Serving".to_owned()]
}

fn no_endpoints() -> [String; 2] {
    [format!("Available False {REASON}"), format!("Ready False {REASON}")]
}

/// A serving model with two pods, whose endpoints are no longer updated.
async fn without_endpoints_controller() -> Harness {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.cluster().has_no_endpoints_controller = true;
    harness
}

#[tokio::test]
async fn a_service_without_endpoints_makes_a_model_unavailable_after_ten_seconds() {
    let mut harness = without_endpoints_controller().await;
    harness.cluster().events.clear();
    harness.delete("endpointslices", SLICE);
    harness.settle().await;
    assert_eq!(conditions(&harness), serving());
    assert_eq!(
        harness.reconcile().await.unwrap(),
        Some(Duration::from_secs(10)),
        "the model is requeued at the end of the grace period"
    );
    wait(&mut harness, 9).await;
    assert_eq!(conditions(&harness), serving());
    wait(&mut harness, 1).await;
    assert_eq!(conditions(&harness), no_endpoints());
    let revision = harness.target_revision();
    let message = format!(
        "Service iris-pods has no ready endpoint although pods of revision {revision} are ready, so gateways cannot \
         discover them; check that kube-controller-manager, which writes EndpointSlices, is running, and list them with: \
         kubectl get endpointslices --selector kubernetes.io/service-name=iris-pods"
    );
    assert_eq!(harness.conditions()[1], format!("Ready False {REASON}: {message}"));
    assert!(harness.conditions()[2].starts_with("Prepared True"), "{:?}", harness.conditions());
    let events = harness.cluster().events.clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with(&format!("Warning {REASON} Service iris-pods")), "{events:?}");

    harness.cluster().has_no_endpoints_controller = false;
    harness.settle().await;
    assert_eq!(conditions(&harness), serving());
    let events = harness.cluster().events.clone();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].starts_with("Normal Serving"), "{events:?}");
}

#[tokio::test]
async fn endpoints_of_deleted_pods_do_not_count() {
    let mut harness = without_endpoints_controller().await;
    let revision = harness.target_revision();
    let names: Vec<_> = (0..2).map(|number| format!("iris-{revision}-{number}")).collect();
    harness.delete("pods", &names[0]);
    wait(&mut harness, 60).await;
    assert_eq!(conditions(&harness), serving(), "the endpoint of one pod is enough");
    for name in &names {
        // The names of deleted pods are not used again.
        harness.edit("endpointslices", SLICE, |slice| {
            let endpoints = slice["endpoints"].as_array_mut().unwrap();
            let endpoint =
                endpoints.iter_mut().find(|endpoint| endpoint["targetRef"]["name"] == **name).unwrap();
            endpoint["targetRef"]["name"] = format!("{name}-before").into();
        });
    }
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(conditions(&harness), no_endpoints());
}

#[tokio::test]
async fn endpoints_that_are_not_ready_do_not_count() {
    let mut harness = without_endpoints_controller().await;
    let set_ready = |harness: &Harness, ready: Value| {
        harness.edit("endpointslices", SLICE, |slice| {
            for endpoint in slice["endpoints"].as_array_mut().unwrap() {
                endpoint["conditions"]["ready"] = ready.clone();
            }
        });
    };
    set_ready(&harness, false.into());
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(conditions(&harness), no_endpoints());
    set_ready(&harness, Value::Null);
    harness.settle().await;
    assert_eq!(conditions(&harness), serving(), "a missing condition means ready");
}

#[tokio::test]
async fn a_model_is_not_ready_before_its_first_endpoint() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.cluster().has_no_endpoints_controller = true;
    harness.settle().await;
    let revision = harness.target_revision();
    let expected =
        format!("Ready False Starting: Service iris-pods has no ready endpoint of revision {revision} yet");
    assert_eq!(harness.conditions()[1], expected);
    assert_eq!(conditions(&harness)[0], "Available False Starting");
    assert_eq!(harness.cluster().events, Vec::<String>::new());
    harness.cluster().has_no_endpoints_controller = false;
    wait(&mut harness, 9).await;
    assert_eq!(conditions(&harness), serving());
    let events = harness.cluster().events.clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("Normal Serving"), "{events:?}");
}

#[tokio::test]
async fn a_model_stays_available_while_endpoints_of_a_switch_or_a_scale_up_are_slow() {
    let mut harness = without_endpoints_controller().await;
    harness.edit_spec(|spec| spec["replicas"] = 4.into());
    wait(&mut harness, 60).await;
    assert_eq!(conditions(&harness), serving());

    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    let new = harness.target_revision();
    assert_eq!(harness.selected_by("iris-pods"), Some(new.clone()));
    assert_eq!(conditions(&harness), ["Available True Serving", "Ready False Starting"]);
    wait(&mut harness, 9).await;
    harness.cluster().has_no_endpoints_controller = false;
    harness.settle().await;
    assert_eq!(conditions(&harness), serving());
    let events = harness.cluster().events.clone();
    assert!(events.iter().all(|event| event.starts_with("Normal Serving")), "{events:?}");
}

#[tokio::test]
async fn endpoints_of_the_previous_revision_do_not_count() {
    let mut harness = without_endpoints_controller().await;
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(conditions(&harness), no_endpoints());
}

#[tokio::test]
async fn a_restarted_operator_keeps_the_reported_reason_without_a_grace_period() {
    let mut harness = without_endpoints_controller().await;
    harness.delete("endpointslices", SLICE);
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(conditions(&harness), no_endpoints());
    harness.cluster().writes.clear();
    harness.restart_operator("predictor:1");
    harness.settle().await;
    assert_eq!(conditions(&harness), no_endpoints());
    assert_eq!(harness.cluster().writes, Vec::<String>::new());
}

#[tokio::test]
async fn models_without_ready_pods_need_no_endpoints() {
    let mut harness = without_endpoints_controller().await;
    harness.delete("endpointslices", SLICE);
    harness.edit_spec(|spec| spec["replicas"] = 0.into());
    harness.settle().await;
    wait(&mut harness, 60).await;
    assert_eq!(conditions(&harness), ["Available False ScaledToZero", "Ready False ScaledToZero"]);

    let mut harness = Harness::new(SYNTHETIC);
    harness.cluster().has_no_endpoints_controller = true;
    harness.set_next_behavior(PodBehavior::NeverReady);
    harness.settle().await;
    wait(&mut harness, 60).await;
    assert_eq!(conditions(&harness), ["Available False Starting", "Ready False Starting"]);
}
