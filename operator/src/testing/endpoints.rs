//! Ready pods that gateways do not find, because the controllers that write `EndpointSlices` are dead or behind.

use std::time::Duration;

use serde_json::Value;

use super::bench::{Bench, SYNTHETIC};
use super::world::Fate;

const SLICE: &str = "iris-pods-x7k2p";
const REASON: &str = "NoEndpoints";

/// Runs passes after some time has gone by.
async fn wait(bench: &mut Bench, seconds: i64) {
    bench.world().wait(seconds);
    bench.settle().await;
}

/// The status and the reason of the conditions Available and Ready.
fn told(bench: &Bench) -> [String; 2] {
    let conditions = bench.conditions();
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
async fn without_controller() -> Bench {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.world().has_no_endpoints_controller = true;
    bench
}

#[tokio::test]
async fn a_service_without_endpoints_makes_a_model_unavailable_after_ten_seconds() {
    let mut bench = without_controller().await;
    bench.world().events.clear();
    bench.delete("endpointslices", SLICE);
    bench.settle().await;
    assert_eq!(told(&bench), serves());
    assert_eq!(bench.pass().await.unwrap(), Some(Duration::from_secs(10)), "it is looked at again by then");
    wait(&mut bench, 9).await;
    assert_eq!(told(&bench), serves());
    wait(&mut bench, 1).await;
    assert_eq!(told(&bench), unreached());
    let revision = bench.asked();
    let message = format!(
        "Service iris-pods has no ready endpoint although pods of revision {revision} are ready, so gateways do not \
         find the model: see kubectl get endpointslices, and whether kube-controller-manager, which writes them, runs"
    );
    assert_eq!(bench.conditions()[1], format!("Ready False {REASON}: {message}"));
    assert!(bench.conditions()[2].starts_with("Prepared True"), "{:?}", bench.conditions());
    let events = bench.world().events.clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with(&format!("Warning {REASON} Service iris-pods")), "{events:?}");

    bench.world().has_no_endpoints_controller = false;
    bench.settle().await;
    assert_eq!(told(&bench), serves());
    let events = bench.world().events.clone();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].starts_with("Normal Serving"), "{events:?}");
}

#[tokio::test]
async fn endpoints_of_pods_that_are_gone_do_not_count() {
    let mut bench = without_controller().await;
    let revision = bench.asked();
    let names: Vec<_> = (0..2).map(|number| format!("iris-{revision}-{number}")).collect();
    bench.delete("pods", &names[0]);
    wait(&mut bench, 60).await;
    assert_eq!(told(&bench), serves(), "the endpoint of one pod is enough");
    for name in &names {
        // Those that come instead have other names.
        bench.edit("endpointslices", SLICE, |slice| {
            let endpoints = slice["endpoints"].as_array_mut().unwrap();
            let own = endpoints.iter_mut().find(|endpoint| endpoint["targetRef"]["name"] == **name).unwrap();
            own["targetRef"]["name"] = format!("{name}-before").into();
        });
    }
    bench.settle().await;
    wait(&mut bench, 10).await;
    assert_eq!(told(&bench), unreached());
}

#[tokio::test]
async fn endpoints_that_are_not_ready_do_not_count() {
    let mut bench = without_controller().await;
    let all = |bench: &Bench, ready: Value| {
        bench.edit("endpointslices", SLICE, |slice| {
            for endpoint in slice["endpoints"].as_array_mut().unwrap() {
                endpoint["conditions"]["ready"] = ready.clone();
            }
        });
    };
    all(&bench, false.into());
    bench.settle().await;
    wait(&mut bench, 10).await;
    assert_eq!(told(&bench), unreached());
    all(&bench, Value::Null);
    bench.settle().await;
    assert_eq!(told(&bench), serves(), "an absent condition means ready");
}

#[tokio::test]
async fn a_model_is_not_ready_before_its_first_endpoint() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.world().has_no_endpoints_controller = true;
    bench.settle().await;
    let revision = bench.asked();
    let waits =
        format!("Ready False Starting: Service iris-pods has no ready endpoint of revision {revision} yet");
    assert_eq!(bench.conditions()[1], waits);
    assert_eq!(told(&bench)[0], "Available False Starting");
    assert_eq!(bench.world().events, Vec::<String>::new());
    bench.world().has_no_endpoints_controller = false;
    wait(&mut bench, 9).await;
    assert_eq!(told(&bench), serves());
    let events = bench.world().events.clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("Normal Serving"), "{events:?}");
}

#[tokio::test]
async fn a_switch_and_a_scale_up_with_slow_endpoints_leave_a_model_available() {
    let mut bench = without_controller().await;
    bench.edit_spec(|spec| spec["replicas"] = 4.into());
    wait(&mut bench, 60).await;
    assert_eq!(told(&bench), serves());

    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    let new = bench.asked();
    assert_eq!(bench.selected_by("iris-pods"), Some(new.clone()));
    assert_eq!(told(&bench), ["Available True Serving", "Ready False Starting"]);
    wait(&mut bench, 9).await;
    bench.world().has_no_endpoints_controller = false;
    bench.settle().await;
    assert_eq!(told(&bench), serves());
    let events = bench.world().events.clone();
    assert!(events.iter().all(|event| event.starts_with("Normal Serving")), "{events:?}");
}

#[tokio::test]
async fn endpoints_of_the_revision_that_served_before_do_not_count() {
    let mut bench = without_controller().await;
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    wait(&mut bench, 10).await;
    assert_eq!(told(&bench), unreached());
}

#[tokio::test]
async fn a_restarted_operator_reports_at_once_what_its_status_says_already() {
    let mut bench = without_controller().await;
    bench.delete("endpointslices", SLICE);
    bench.settle().await;
    wait(&mut bench, 10).await;
    assert_eq!(told(&bench), unreached());
    bench.world().writes.clear();
    bench.restart_operator("predictor:1");
    bench.settle().await;
    assert_eq!(told(&bench), unreached());
    assert_eq!(bench.world().writes, Vec::<String>::new());
}

#[tokio::test]
async fn pods_that_are_not_ready_and_models_without_pods_need_no_endpoints() {
    let mut bench = without_controller().await;
    bench.delete("endpointslices", SLICE);
    bench.edit_spec(|spec| spec["replicas"] = 0.into());
    bench.settle().await;
    wait(&mut bench, 60).await;
    assert_eq!(told(&bench), ["Available False ScaledToZero", "Ready False ScaledToZero"]);

    let mut bench = Bench::new(SYNTHETIC);
    bench.world().has_no_endpoints_controller = true;
    bench.fate_of_next(Fate::Unready);
    bench.settle().await;
    wait(&mut bench, 60).await;
    assert_eq!(told(&bench), ["Available False Starting", "Ready False Starting"]);
}
