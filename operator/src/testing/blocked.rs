//! Children that cannot be written: what serves is maintained all the same.

use serde_json::json;

use super::bench::{Bench, SYNTHETIC};
use super::server::Disturbance;
use super::world::key;

/// A model that serves, whose next revision the API server refuses; and the revision that serves.
async fn blocked(before: &str, version: &str, status: u16) -> (Bench, String) {
    let mut bench = Bench::new(&SYNTHETIC.replace("1.0", before));
    bench.settle().await;
    let serving = bench.asked();
    bench.edit_spec(|spec| spec["version"] = version.into());
    let candidate = format!("deployments/iris-{}", bench.asked());
    bench.disturb("PATCH", &candidate, usize::MAX, Disturbance::FailsBefore(status));
    (bench, serving)
}

#[tokio::test]
async fn a_candidate_that_is_refused_stops_neither_repair_nor_scaling_of_what_serves() {
    // Whichever of the two comes first by its hash.
    for (before, version) in [("1.0", "1.1"), ("1.1", "1.0")] {
        let (mut bench, serving) = blocked(before, version, 403).await;
        bench.settle().await;
        let said = bench.conditions();
        assert!(said[0].starts_with("Available True"), "{said:?}");
        assert!(
            said[1].starts_with("Ready False ApplyRefused: the API server refused Deployment"),
            "{said:?}"
        );

        bench.edit_spec(|spec| spec["replicas"] = 5.into());
        bench.delete("services", "iris");
        bench.edit("services", "iris-pods", |service| service["spec"]["selector"]["x"] = "y".into());
        bench.delete("poddisruptionbudgets", "iris");
        bench.settle().await;
        assert_eq!(bench.revisions()[&serving], (5, 5));
        assert_eq!(bench.selected_by("iris").as_ref(), Some(&serving));
        assert!(bench.world().get("services", "iris-pods").unwrap()["spec"]["selector"]["x"].is_null());
        assert!(bench.world().get("poddisruptionbudgets", "iris").is_some());

        bench.world().disturbed.clear();
        bench.settle().await;
        assert_eq!(bench.selected_by("iris-pods"), Some(bench.asked()));
    }
}

#[tokio::test]
async fn an_older_revision_goes_in_time_while_a_candidate_is_refused() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let oldest = bench.asked();
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    assert!(bench.revisions().contains_key(&oldest));
    bench.edit_spec(|spec| spec["version"] = "1.2".into());
    let candidate = format!("deployments/iris-{}", bench.asked());
    bench.disturb("PATCH", &candidate, usize::MAX, Disturbance::FailsBefore(422));
    bench.settle().await;
    bench.world().wait(61);
    bench.settle().await;
    assert!(!bench.revisions().contains_key(&oldest), "{:?}", bench.revisions());
}

#[tokio::test]
async fn nothing_is_removed_while_the_services_could_not_be_switched() {
    let mut bench = Bench::new(&format!("{SYNTHETIC}  retireSeconds: 0\n"));
    bench.settle().await;
    let old = bench.asked();
    bench.disturb("PATCH", "services/iris", usize::MAX, Disturbance::FailsBefore(403));
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    assert_eq!(bench.revisions()[&old], (2, 2), "it is still selected");
    assert!(bench.conditions()[0].starts_with("Available True"), "{:?}", bench.conditions());
    bench.world().disturbed.clear();
    bench.settle().await;
    assert_eq!(bench.revisions(), [(bench.asked(), (2, 2))].into());
}

#[tokio::test]
async fn a_call_that_keeps_failing_for_a_candidate_is_tried_again_and_told() {
    let (mut bench, serving) = blocked("1.0", "1.1", 500).await;
    bench.edit_spec(|spec| spec["replicas"] = 5.into());
    for times in 0..4 {
        assert!(bench.pass().await.is_err());
        bench.world().step();
        let is_told =
            bench.conditions()[1].starts_with("Ready False ApplyRefused: failed to apply Deployment");
        assert_eq!(is_told, times > 2, "{times}: {:?}", bench.conditions());
    }
    assert_eq!(bench.revisions()[&serving].0, 5);
}

#[tokio::test]
async fn passes_that_fail_are_tried_again_ever_more_slowly_and_not_before_the_api_server_wants_it() {
    let (mut bench, _) = blocked("1.0", "1.1", 500).await;
    for _ in 0..6 {
        assert!(bench.pass().await.is_err());
    }
    let delays = &bench.delays;
    assert!(delays.windows(2).all(|pair| pair[0] < pair[1]), "{delays:?}");
    assert!(delays[0].as_secs_f64() <= 1.0 && delays[5].as_secs_f64() > 20.0, "{delays:?}");

    let (mut bench, _) = blocked("1.0", "1.1", 429).await;
    assert!(bench.pass().await.is_err());
    assert!(bench.delays[0].as_secs() >= 40, "{:?}", bench.delays);
    // What succeeds begins anew.
    bench.world().disturbed.clear();
    bench.settle().await;
    bench.disturb("PATCH", "deployments", 1, Disturbance::FailsBefore(500));
    bench.edit_spec(|spec| spec["replicas"] = 4.into());
    assert!(bench.pass().await.is_err());
    assert!(bench.delays[1].as_secs_f64() <= 1.0, "{:?}", bench.delays);
}

#[tokio::test]
async fn a_budget_whose_name_is_taken_stops_nothing_else() {
    let mut bench = Bench::new(SYNTHETIC);
    let theirs = json!({"metadata": {"name": "iris"}, "spec": {"minAvailable": 1}});
    let theirs = bench.world().store(key("poddisruptionbudgets", "shop", "iris"), theirs);
    bench.settle().await;
    assert_eq!(bench.revisions(), [(bench.asked(), (2, 2))].into());
    let said = bench.conditions();
    assert!(said[0].starts_with("Available True"), "{said:?}");
    assert!(said[1].starts_with("Ready False NameTaken: PodDisruptionBudget shop/iris"), "{said:?}");
    assert_eq!(bench.world().get("poddisruptionbudgets", "iris"), Some(&theirs));
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    assert_eq!(bench.selected_by("iris-pods"), Some(bench.asked()));
    bench.delete("poddisruptionbudgets", "iris");
    bench.settle().await;
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
}

#[tokio::test]
async fn a_candidate_whose_names_are_taken_leaves_what_serves_maintained() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let serving = bench.asked();
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    let name = format!("iris-{}", bench.asked());
    bench.world().store(key("configmaps", "shop", &name), json!({"metadata": {"name": name}}));
    bench.edit_spec(|spec| spec["replicas"] = 4.into());
    bench.settle().await;
    assert_eq!(bench.revisions(), [(serving, (4, 4))].into(), "nothing is made beside what is taken");
    assert!(bench.conditions()[1].starts_with("Ready False NameTaken"), "{:?}", bench.conditions());
}

#[tokio::test]
async fn data_that_may_not_be_read_stop_no_scaling_and_are_told() {
    let manifest = SYNTHETIC
        .replace("synthetic: {}", "csv: {source: {configMap: {name: rows, key: rows.csv}}, target: species}");
    let mut bench = Bench::new(&manifest);
    bench.apply("{kind: ConfigMap, apiVersion: v1, metadata: {name: rows}, data: {rows.csv: \"a,species\\n1,x\\n2,y\\n\"}}");
    bench.settle().await;
    let serving = bench.asked();
    // Data that were read before are not read again until they change.
    bench.apply("{kind: ConfigMap, apiVersion: v1, metadata: {name: rows}, data: {rows.csv: \"a,species\\n3,x\\n4,y\\n\"}}");
    bench.disturb("GET", "configmaps/rows", usize::MAX, Disturbance::FailsBefore(403));
    bench.edit_spec(|spec| spec["replicas"] = 3.into());
    bench.settle().await;
    assert_eq!(bench.revisions(), [(serving, (3, 3))].into());
    let said = bench.conditions();
    assert!(
        said[1].starts_with("Ready False ApplyRefused: the API server refused ConfigMap shop/rows"),
        "{said:?}"
    );
    assert_eq!(bench.pass().await.unwrap().unwrap().as_secs(), 15, "a right that is given makes no event");
}
