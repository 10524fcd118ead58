//! Ready pods that gateways do not find, because the controllers that write `EndpointSlices` are dead or behind.

use std::time::Duration;

use serde_json::Value;

use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};

const SLICE: &str = "iris-pods-x7k2p";
const REASON: &str = "NoEndpoints";

/// Runs passes after some time has gone by.
async fn wait(harness: &mut Harness, seconds: i64) {
    harness.cluster().advance_time(seconds);
    harness.settle().await;
}

/// The status and the reason of the conditions Available and Ready.
fn told(harness: &Harness) -> [String; 2] {
    let conditions = harness.conditions();
    let first = |line: &String| line.split(':').next().unwrap().to_owned();
    [first(&conditions[0]), first(&conditions[1])]
}

fn serves() -> [String; 2] {
    ["Available True Serving".to_owned(), "Ready True Serving".to_owned()]
}

fn unreached() -> [String; 2] {
    [format!("Available False {REASON}"), format!("Ready False {REASON}")]
}

/// A model that serves, with two pods, and no controller that writes endpoints any more.
async fn without_controller() -> Harness {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.cluster().has_no_endpoints_controller = true;
    harness
}

#[tokio::test]
async fn a_service_without_endpoints_makes_a_model_unavailable_after_ten_seconds() {
    let mut harness = without_controller().await;
    harness.cluster().events.clear();
    harness.delete("endpointslices", SLICE);
    harness.settle().await;
    assert_eq!(told(&harness), serves());
    assert_eq!(
        harness.reconcile().await.unwrap(),
        Some(Duration::from_secs(10)),
        "it is looked at again by then"
    );
    wait(&mut harness, 9).await;
    assert_eq!(told(&harness), serves());
    wait(&mut harness, 1).await;
    assert_eq!(told(&harness), unreached());
    let revision = harness.target_revision();
    let message = format!(
        "Service iris-pods has no ready endpoint although pods of revision {revision} are ready, so gateways do not \
         find the model: see kubectl get endpointslices, and whether kube-controller-manager, which writes them, runs"
    );
    assert_eq!(harness.conditions()[1], format!("Ready False {REASON}: {message}"));
    assert!(harness.conditions()[2].starts_with("Prepared True"), "{:?}", harness.conditions());
    let events = harness.cluster().events.clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with(&format!("Warning {REASON} Service iris-pods")), "{events:?}");

    harness.cluster().has_no_endpoints_controller = false;
    harness.settle().await;
    assert_eq!(told(&harness), serves());
    let events = harness.cluster().events.clone();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].starts_with("Normal Serving"), "{events:?}");
}

#[tokio::test]
async fn endpoints_of_pods_that_are_gone_do_not_count() {
    let mut harness = without_controller().await;
    let revision = harness.target_revision();
    let names: Vec<_> = (0..2).map(|number| format!("iris-{revision}-{number}")).collect();
    harness.delete("pods", &names[0]);
    wait(&mut harness, 60).await;
    assert_eq!(told(&harness), serves(), "the endpoint of one pod is enough");
    for name in &names {
        // Those that come instead have other names.
        harness.edit("endpointslices", SLICE, |slice| {
            let endpoints = slice["endpoints"].as_array_mut().unwrap();
            let own = endpoints.iter_mut().find(|endpoint| endpoint["targetRef"]["name"] == **name).unwrap();
            own["targetRef"]["name"] = format!("{name}-before").into();
        });
    }
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(told(&harness), unreached());
}

#[tokio::test]
async fn endpoints_that_are_not_ready_do_not_count() {
    let mut harness = without_controller().await;
    let all = |harness: &Harness, ready: Value| {
        harness.edit("endpointslices", SLICE, |slice| {
            for endpoint in slice["endpoints"].as_array_mut().unwrap() {
                endpoint["conditions"]["ready"] = ready.clone();
            }
        });
    };
    all(&harness, false.into());
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(told(&harness), unreached());
    all(&harness, Value::Null);
    harness.settle().await;
    assert_eq!(told(&harness), serves(), "an absent condition means ready");
}

#[tokio::test]
async fn a_model_is_not_ready_before_its_first_endpoint() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.cluster().has_no_endpoints_controller = true;
    harness.settle().await;
    let revision = harness.target_revision();
    let waits =
        format!("Ready False Starting: Service iris-pods has no ready endpoint of revision {revision} yet");
    assert_eq!(harness.conditions()[1], waits);
    assert_eq!(told(&harness)[0], "Available False Starting");
    assert_eq!(harness.cluster().events, Vec::<String>::new());
    harness.cluster().has_no_endpoints_controller = false;
    wait(&mut harness, 9).await;
    assert_eq!(told(&harness), serves());
    let events = harness.cluster().events.clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("Normal Serving"), "{events:?}");
}

#[tokio::test]
async fn a_switch_and_a_scale_up_with_slow_endpoints_leave_a_model_available() {
    let mut harness = without_controller().await;
    harness.edit_spec(|spec| spec["replicas"] = 4.into());
    wait(&mut harness, 60).await;
    assert_eq!(told(&harness), serves());

    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    let new = harness.target_revision();
    assert_eq!(harness.selected_by("iris-pods"), Some(new.clone()));
    assert_eq!(told(&harness), ["Available True Serving", "Ready False Starting"]);
    wait(&mut harness, 9).await;
    harness.cluster().has_no_endpoints_controller = false;
    harness.settle().await;
    assert_eq!(told(&harness), serves());
    let events = harness.cluster().events.clone();
    assert!(events.iter().all(|event| event.starts_with("Normal Serving")), "{events:?}");
}

#[tokio::test]
async fn endpoints_of_the_revision_that_served_before_do_not_count() {
    let mut harness = without_controller().await;
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(told(&harness), unreached());
}

#[tokio::test]
async fn a_restarted_operator_reports_at_once_what_its_status_says_already() {
    let mut harness = without_controller().await;
    harness.delete("endpointslices", SLICE);
    harness.settle().await;
    wait(&mut harness, 10).await;
    assert_eq!(told(&harness), unreached());
    harness.cluster().writes.clear();
    harness.restart_operator("predictor:1");
    harness.settle().await;
    assert_eq!(told(&harness), unreached());
    assert_eq!(harness.cluster().writes, Vec::<String>::new());
}

#[tokio::test]
async fn pods_that_are_not_ready_and_models_without_pods_need_no_endpoints() {
    let mut harness = without_controller().await;
    harness.delete("endpointslices", SLICE);
    harness.edit_spec(|spec| spec["replicas"] = 0.into());
    harness.settle().await;
    wait(&mut harness, 60).await;
    assert_eq!(told(&harness), ["Available False ScaledToZero", "Ready False ScaledToZero"]);

    let mut harness = Harness::new(SYNTHETIC);
    harness.cluster().has_no_endpoints_controller = true;
    harness.set_next_behavior(PodBehavior::NeverReady);
    harness.settle().await;
    wait(&mut harness, 60).await;
    assert_eq!(told(&harness), ["Available False Starting", "Ready False Starting"]);
}
