//! Children that cannot be written: what serves is maintained all the same.

use serde_json::json;

use super::fake_api_server::Fault;
use super::fake_cluster::key;
use super::harness::{Harness, SYNTHETIC};

/// A model that serves, whose next revision the API server refuses; and the revision that serves.
async fn blocked(before: &str, version: &str, status: u16) -> (Harness, String) {
    let mut harness = Harness::new(&SYNTHETIC.replace("1.0", before));
    harness.settle().await;
    let serving = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = version.into());
    let candidate = format!("deployments/iris-{}", harness.target_revision());
    harness.inject_fault("PATCH", &candidate, usize::MAX, Fault::FailsBefore(status));
    (harness, serving)
}

#[tokio::test]
async fn a_candidate_that_is_refused_stops_neither_repair_nor_scaling_of_what_serves() {
    // Whichever of the two comes first by its hash.
    for (before, version) in [("1.0", "1.1"), ("1.1", "1.0")] {
        let (mut harness, serving) = blocked(before, version, 403).await;
        harness.settle().await;
        let conditions = harness.conditions();
        assert!(conditions[0].starts_with("Available True"), "{conditions:?}");
        assert!(
            conditions[1].starts_with("Ready False ApplyRefused: the API server refused Deployment"),
            "{conditions:?}"
        );

        harness.edit_spec(|spec| spec["replicas"] = 5.into());
        harness.delete("services", "iris");
        harness.edit("services", "iris-pods", |service| service["spec"]["selector"]["x"] = "y".into());
        harness.delete("poddisruptionbudgets", "iris");
        harness.settle().await;
        assert_eq!(harness.revisions()[&serving], (5, 5));
        assert_eq!(harness.selected_by("iris").as_ref(), Some(&serving));
        assert!(harness.cluster().get("services", "iris-pods").unwrap()["spec"]["selector"]["x"].is_null());
        assert!(harness.cluster().get("poddisruptionbudgets", "iris").is_some());

        harness.cluster().injected_faults.clear();
        harness.settle().await;
        assert_eq!(harness.selected_by("iris-pods"), Some(harness.target_revision()));
    }
}

#[tokio::test]
async fn an_older_revision_goes_in_time_while_a_candidate_is_refused() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let oldest = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    assert!(harness.revisions().contains_key(&oldest));
    harness.edit_spec(|spec| spec["version"] = "1.2".into());
    let candidate = format!("deployments/iris-{}", harness.target_revision());
    harness.inject_fault("PATCH", &candidate, usize::MAX, Fault::FailsBefore(422));
    harness.settle().await;
    harness.cluster().advance_time(61);
    harness.settle().await;
    assert!(!harness.revisions().contains_key(&oldest), "{:?}", harness.revisions());
}

#[tokio::test]
async fn nothing_is_removed_while_the_services_could_not_be_switched() {
    let mut harness = Harness::new(&format!("{SYNTHETIC}  retireSeconds: 0\n"));
    harness.settle().await;
    let old = harness.target_revision();
    harness.inject_fault("PATCH", "services/iris", usize::MAX, Fault::FailsBefore(403));
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    assert_eq!(harness.revisions()[&old], (2, 2), "it is still selected");
    assert!(harness.conditions()[0].starts_with("Available True"), "{:?}", harness.conditions());
    harness.cluster().injected_faults.clear();
    harness.settle().await;
    assert_eq!(harness.revisions(), [(harness.target_revision(), (2, 2))].into());
}

#[tokio::test]
async fn a_call_that_keeps_failing_for_a_candidate_is_tried_again_and_told() {
    let (mut harness, serving) = blocked("1.0", "1.1", 500).await;
    harness.edit_spec(|spec| spec["replicas"] = 5.into());
    for times in 0..4 {
        assert!(harness.reconcile().await.is_err());
        harness.cluster().step();
        let is_told =
            harness.conditions()[1].starts_with("Ready False ApplyRefused: failed to apply Deployment");
        assert_eq!(is_told, times > 2, "{times}: {:?}", harness.conditions());
    }
    assert_eq!(harness.revisions()[&serving].0, 5);
}

#[tokio::test]
async fn passes_that_fail_are_tried_again_ever_more_slowly_and_not_before_the_api_server_wants_it() {
    let (mut harness, _) = blocked("1.0", "1.1", 500).await;
    for _ in 0..6 {
        assert!(harness.reconcile().await.is_err());
    }
    let delays = &harness.delays;
    assert!(delays.windows(2).all(|pair| pair[0] < pair[1]), "{delays:?}");
    assert!(delays[0].as_secs_f64() <= 1.0 && delays[5].as_secs_f64() > 20.0, "{delays:?}");

    let (mut harness, _) = blocked("1.0", "1.1", 429).await;
    assert!(harness.reconcile().await.is_err());
    assert!(harness.delays[0].as_secs() >= 40, "{:?}", harness.delays);
    // What succeeds begins anew.
    harness.cluster().injected_faults.clear();
    harness.settle().await;
    harness.inject_fault("PATCH", "deployments", 1, Fault::FailsBefore(500));
    harness.edit_spec(|spec| spec["replicas"] = 4.into());
    assert!(harness.reconcile().await.is_err());
    assert!(harness.delays[1].as_secs_f64() <= 1.0, "{:?}", harness.delays);
}

#[tokio::test]
async fn a_budget_whose_name_is_taken_stops_nothing_else() {
    let mut harness = Harness::new(SYNTHETIC);
    let theirs = json!({"metadata": {"name": "iris"}, "spec": {"minAvailable": 1}});
    let theirs = harness.cluster().store(key("poddisruptionbudgets", "shop", "iris"), theirs);
    harness.settle().await;
    assert_eq!(harness.revisions(), [(harness.target_revision(), (2, 2))].into());
    let conditions = harness.conditions();
    assert!(conditions[0].starts_with("Available True"), "{conditions:?}");
    assert!(
        conditions[1].starts_with("Ready False NameTaken: PodDisruptionBudget shop/iris"),
        "{conditions:?}"
    );
    assert_eq!(harness.cluster().get("poddisruptionbudgets", "iris"), Some(&theirs));
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    assert_eq!(harness.selected_by("iris-pods"), Some(harness.target_revision()));
    harness.delete("poddisruptionbudgets", "iris");
    harness.settle().await;
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
}

#[tokio::test]
async fn a_candidate_whose_names_are_taken_leaves_what_serves_maintained() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let serving = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    let name = format!("iris-{}", harness.target_revision());
    harness.cluster().store(key("configmaps", "shop", &name), json!({"metadata": {"name": name}}));
    harness.edit_spec(|spec| spec["replicas"] = 4.into());
    harness.settle().await;
    assert_eq!(harness.revisions(), [(serving, (4, 4))].into(), "nothing is made beside what is taken");
    assert!(harness.conditions()[1].starts_with("Ready False NameTaken"), "{:?}", harness.conditions());
}

#[tokio::test]
async fn data_that_may_not_be_read_stop_no_scaling_and_are_told() {
    let manifest = SYNTHETIC
        .replace("synthetic: {}", "csv: {source: {configMap: {name: rows, key: rows.csv}}, target: species}");
    let mut harness = Harness::new(&manifest);
    harness.apply("{kind: ConfigMap, apiVersion: v1, metadata: {name: rows}, data: {rows.csv: \"a,species\\n1,x\\n2,y\\n\"}}");
    harness.settle().await;
    let serving = harness.target_revision();
    // Data that were read before are not read again until they change.
    harness.apply("{kind: ConfigMap, apiVersion: v1, metadata: {name: rows}, data: {rows.csv: \"a,species\\n3,x\\n4,y\\n\"}}");
    harness.inject_fault("GET", "configmaps/rows", usize::MAX, Fault::FailsBefore(403));
    harness.edit_spec(|spec| spec["replicas"] = 3.into());
    harness.settle().await;
    assert_eq!(harness.revisions(), [(serving, (3, 3))].into());
    let conditions = harness.conditions();
    assert!(
        conditions[1].starts_with("Ready False ApplyRefused: the API server refused ConfigMap shop/rows"),
        "{conditions:?}"
    );
    assert_eq!(
        harness.reconcile().await.unwrap().unwrap().as_secs(),
        15,
        "a right that is given makes no event"
    );
}
