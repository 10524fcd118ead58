//! Children that cannot be written do not affect the serving revision.

use serde_json::json;

use super::fake_api_server::Fault;
use super::fake_cluster::key;
use super::harness::{Harness, SYNTHETIC};

/// A serving model whose next revision the API server rejects, with the serving revision.
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
async fn a_rejected_candidate_does_not_stop_repair_or_scaling_of_the_serving_revision() {
    // In both orders of the two revision names.
    for (before, version) in [("1.0", "1.1"), ("1.1", "1.0")] {
        let (mut harness, serving) = blocked(before, version, 403).await;
        harness.settle().await;
        let conditions = harness.conditions();
        assert!(conditions[0].starts_with("Available True"), "{conditions:?}");
        assert!(
            conditions[1].starts_with(
                "Ready False ApplyRefused: the API server rejected the request to apply Deployment"
            ),
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
async fn a_retired_revision_is_deleted_on_time_while_a_candidate_is_rejected() {
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
async fn no_revision_is_deleted_until_the_services_are_switched() {
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
async fn a_call_that_keeps_failing_is_retried_and_shown_in_the_status() {
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
async fn failed_reconciles_back_off_and_respect_retry_after() {
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
    // A success resets the backoff.
    harness.cluster().injected_faults.clear();
    harness.settle().await;
    harness.inject_fault("PATCH", "deployments", 1, Fault::FailsBefore(500));
    harness.edit_spec(|spec| spec["replicas"] = 4.into());
    assert!(harness.reconcile().await.is_err());
    assert!(harness.delays[1].as_secs_f64() <= 1.0, "{:?}", harness.delays);
}

#[tokio::test]
async fn a_disruption_budget_with_a_taken_name_blocks_nothing_else() {
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
async fn a_candidate_with_a_taken_name_does_not_affect_the_serving_revision() {
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
async fn forbidden_data_do_not_stop_scaling_and_are_reported() {
    let manifest = SYNTHETIC
        .replace("synthetic: {}", "csv: {source: {configMap: {name: rows, key: rows.csv}}, target: species}");
    let mut harness = Harness::new(&manifest);
    harness.apply("{kind: ConfigMap, apiVersion: v1, metadata: {name: rows}, data: {rows.csv: \"a,species\\n1,x\\n2,y\\n\"}}");
    harness.settle().await;
    let serving = harness.target_revision();
    // Unchanged data are not read again.
    harness.apply("{kind: ConfigMap, apiVersion: v1, metadata: {name: rows}, data: {rows.csv: \"a,species\\n3,x\\n4,y\\n\"}}");
    harness.inject_fault("GET", "configmaps/rows", usize::MAX, Fault::FailsBefore(403));
    harness.edit_spec(|spec| spec["replicas"] = 3.into());
    harness.settle().await;
    assert_eq!(harness.revisions(), [(serving, (3, 3))].into());
    let conditions = harness.conditions();
    assert!(
        conditions[1].starts_with(
            "Ready False ApplyRefused: the API server rejected the request to read ConfigMap shop/rows"
        ),
        "{conditions:?}"
    );
    assert_eq!(
        harness.reconcile().await.unwrap().unwrap().as_secs(),
        15,
        "a right that is given makes no event"
    );
}
