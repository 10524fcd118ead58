//! Changes of revision.

use serde_json::{Value, json};

use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};
use crate::pod::template::PredictorRuntime;

/// A harness whose model serves with both pods.
async fn serving() -> Harness {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    assert_eq!(harness.revisions().into_values().collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(harness.selected_by("iris"), harness.selected_by("iris-pods"));
    harness
}

#[tokio::test]
async fn a_new_model_trains_in_one_pod_and_then_gets_all_replicas() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.reconcile().await.unwrap();
    let revision = harness.target_revision();
    assert_eq!(harness.revisions(), [(revision.clone(), (1, 0))].into());
    assert_eq!(harness.selected_by("iris-pods"), Some(revision.clone()));
    harness.settle().await;
    let expected_message = format!("Normal Serving revision {revision} answers with all 2 pods");
    assert_eq!(harness.revisions(), [(revision, (2, 2))].into());
    assert_eq!(harness.cluster().events, [expected_message]);
}

#[tokio::test]
async fn a_new_revision_takes_over_once_all_its_pods_are_ready_and_the_old_one_is_kept_for_retire_seconds() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    let uids: Vec<_> = harness.cluster().of_kind("pods").map(|pod| pod["metadata"]["uid"].clone()).collect();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    let new = harness.target_revision();

    harness.reconcile().await.unwrap();
    assert_eq!(harness.revisions(), [(old.clone(), (2, 2)), (new.clone(), (1, 0))].into());
    assert_eq!(harness.selected_by("iris-pods"), Some(old.clone()));
    harness.settle().await;
    assert_eq!(harness.revisions(), [(old.clone(), (2, 2)), (new.clone(), (2, 2))].into());
    assert_eq!(harness.selected_by("iris"), Some(new.clone()));
    assert_eq!(harness.selected_by("iris-pods"), Some(new.clone()));
    assert_eq!(harness.switches, 1);

    harness.cluster().advance_time(59);
    harness.settle().await;
    let stay: Vec<_> = harness.cluster().of_kind("pods").map(|pod| pod["metadata"]["uid"].clone()).collect();
    assert!(uids.iter().all(|uid| stay.contains(uid)), "{stay:?}");
    harness.cluster().advance_time(1);
    harness.settle().await;
    assert_eq!(harness.revisions(), [(new.clone(), (2, 2))].into());
    let names: Vec<_> =
        harness.cluster().of_kind("configmaps").map(|c| c["metadata"]["name"].clone()).collect();
    assert_eq!(names, [format!("iris-{new}")]);
    assert_eq!(harness.switches, 1);
}

#[tokio::test]
async fn time_based_changes_requeue_the_model() {
    let mut harness = serving().await;
    assert_eq!(harness.reconcile().await.unwrap(), None);
    harness.edit_spec(|spec| {
        spec["version"] = "1.1".into();
        spec["train"]["deadlineSeconds"] = 30.into();
    });
    harness.set_next_behavior(PodBehavior::TrainsForever);
    harness.settle().await;
    harness.cluster().advance_time(10);
    assert_eq!(harness.reconcile().await.unwrap().unwrap().as_secs(), 20);

    harness.set_next_behavior(PodBehavior::Healthy);
    harness.settle().await;
    harness.cluster().advance_time(10);
    assert_eq!(harness.reconcile().await.unwrap().unwrap().as_secs(), 50);
    harness.cluster().advance_time(50);
    harness.settle().await;
    assert_eq!(harness.reconcile().await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_revision_is_scaled_to_zero_and_not_retried_while_the_old_one_serves() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    harness.edit_spec(|spec| spec["train"]["gate"] = json!({"metric": "Accuracy", "min": "0.99"}));
    let new = harness.target_revision();
    harness.set_next_behavior(PodBehavior::Refused("gate_missed"));
    harness.settle().await;
    assert_eq!(harness.revisions(), [(old.clone(), (2, 2)), (new.clone(), (0, 0))].into());
    assert_eq!(harness.selected_by("iris-pods"), Some(old.clone()));
    let refused = harness.model().status.unwrap().refused.unwrap();
    assert_eq!((refused.revision, refused.reason.as_str()), (new.clone(), "GateMissed"));

    // Neither another operator nor another image nor healthy pods retry it: only a change of spec or data does.
    harness.set_next_behavior(PodBehavior::Healthy);
    harness.restart_operator("predictor:2");
    harness.cluster().advance_time(600);
    harness.settle().await;
    assert_eq!(harness.revisions(), [(old.clone(), (2, 2)), (new.clone(), (0, 0))].into());

    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    let newest = harness.target_revision();
    harness.settle().await;
    harness.cluster().advance_time(60);
    harness.settle().await;
    assert_eq!(harness.revisions(), [(newest, (2, 2))].into());
    assert!(harness.model().status.unwrap().refused.is_none());
}

#[tokio::test]
async fn a_refused_first_revision_is_replaced_by_the_next_at_once() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.set_next_behavior(PodBehavior::Refused("data_invalid"));
    harness.settle().await;
    let refused = harness.target_revision();
    assert_eq!(harness.revisions(), [(refused, (0, 0))].into());
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.reconcile().await.unwrap();
    assert_eq!(harness.revisions(), [(harness.target_revision(), (1, 0))].into());
    assert_eq!(harness.selected_by("iris"), Some(harness.target_revision()));
}

#[tokio::test]
async fn an_obsolete_candidate_is_deleted_at_once() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.set_next_behavior(PodBehavior::NeverReady);
    harness.settle().await;
    assert_eq!(harness.revisions()[&harness.target_revision()], (1, 0));
    harness.edit_spec(|spec| spec["version"] = "1.0".into());
    harness.settle().await;
    assert_eq!(harness.revisions(), [(old, (2, 2))].into());
    assert_eq!(harness.switches, 0);
}

#[tokio::test]
async fn a_rollback_within_retire_seconds_needs_no_training() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    harness.cluster().advance_time(30);
    let uids = |harness: &Harness| -> Vec<_> {
        let cluster = harness.cluster();
        let old_pods =
            cluster.of_kind("pods").filter(|pod| pod["metadata"]["labels"]["canopy.rs/revision"] == old);
        old_pods.map(|pod| pod["metadata"]["uid"].clone()).collect()
    };
    let before = uids(&harness);
    harness.edit_spec(|spec| spec["version"] = "1.0".into());
    harness.settle().await;
    assert_eq!(harness.selected_by("iris-pods").as_ref(), Some(&old));
    assert_eq!(uids(&harness), before);
    harness.cluster().advance_time(60);
    harness.settle().await;
    assert_eq!(harness.revisions(), [(old.clone(), (2, 2))].into());
}

#[tokio::test]
async fn scaling_changes_the_serving_revision_without_a_new_revision() {
    let mut harness = serving().await;
    let revision = harness.target_revision();
    for (replicas, budget) in [(5, true), (1, false), (0, false), (3, true)] {
        harness.edit_spec(|spec| spec["replicas"] = replicas.into());
        harness.settle().await;
        assert_eq!(harness.revisions(), [(revision.clone(), (replicas, replicas))].into());
        assert_eq!(harness.cluster().get("poddisruptionbudgets", "iris").is_some(), budget, "{replicas}");
    }
    harness.assert_no_repair_event();
}

#[tokio::test]
async fn a_paused_model_is_not_changed() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    harness.edit_spec(|spec| {
        spec["paused"] = true.into();
        spec["version"] = "1.1".into();
        spec["replicas"] = 5.into();
    });
    harness.cluster().writes.clear();
    harness.settle().await;
    assert_eq!(harness.cluster().writes, ["status iris"]);
    harness.edit_spec(|spec| spec["paused"] = false.into());
    harness.settle().await;
    assert_eq!(harness.revisions(), [(old, (5, 5)), (harness.target_revision(), (5, 5))].into());
}

#[tokio::test]
async fn a_requested_restart_is_a_new_revision() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    harness.edit("predictormodels", "iris", |model| {
        model["metadata"]["annotations"] = json!({"canopy.rs/restartedAt": "2026-05-04"});
    });
    harness.settle().await;
    assert_ne!(harness.target_revision(), old);
    assert_eq!(harness.selected_by("iris-pods"), Some(harness.target_revision()));
    assert_eq!(harness.switches, 1);
}

#[tokio::test]
async fn an_operator_upgrade_keeps_pods_and_restores_their_original_template() {
    let mut harness = serving().await;
    let name = format!("iris-{}", harness.target_revision());
    let spec = harness.cluster().get("deployments", &name).unwrap()["spec"].clone();
    harness.cluster().writes.clear();
    harness.restart_operator("predictor:2");
    harness.settle().await;
    assert_eq!(harness.cluster().writes, Vec::<String>::new());
    harness.delete("deployments", &name);
    harness.settle().await;
    assert_eq!(harness.cluster().get("deployments", &name).unwrap()["spec"], spec);
    assert_eq!(harness.revisions()[&harness.target_revision()], (2, 2));
}

#[tokio::test]
async fn predictors_of_new_revisions_get_the_trace_settings_of_the_operator() {
    let mut harness = serving().await;
    let variables = |harness: &Harness| {
        let name = format!("iris-{}", harness.target_revision());
        let deployment = harness.cluster().get("deployments", &name).unwrap().clone();
        let pod = &deployment["spec"]["template"]["spec"];
        let of = |container: &Value| -> Vec<Value> {
            let all = container["env"].as_array().into_iter().flatten();
            // The digest of the serving config is there too.
            all.filter(|variable| variable["name"] != "CANOPY_CONFIG_SHA256").cloned().collect()
        };
        assert_eq!(of(&pod["initContainers"][0]), Vec::<Value>::new(), "to prepare is not traced");
        of(&pod["containers"][0])
    };
    let expected_message = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318".to_owned())];
    harness.restart_operator_with_runtime(PredictorRuntime {
        image: "predictor:1".to_owned(),
        variables: expected_message,
        ..PredictorRuntime::default()
    });
    harness.settle().await;
    assert_eq!(variables(&harness), Vec::<Value>::new(), "what serves is not restarted");
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    let expected = [json!({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"})];
    assert_eq!(variables(&harness), expected);
}

#[tokio::test]
async fn a_lagging_watch_does_not_delete_a_retired_revision_early() {
    let mut harness = serving().await;
    let old = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    // The Service has the selector and the time of the switch, whatever the other watches deliver.
    for seen in
        [&["services"][..], &["deployments", "pods"], &["services"], &["deployments"], &["pods", "services"]]
    {
        for _ in 0..4 {
            harness.watch(seen);
            harness.reconcile_without_watch_events().await.unwrap();
            harness.cluster().step();
            assert_eq!(harness.revisions()[&old], (2, 2));
        }
    }
    harness.settle().await;
    assert_eq!(harness.selected_by("iris-pods"), Some(harness.target_revision()));
    assert_eq!((harness.switches, harness.revisions()[&old]), (1, (2, 2)));
    harness.assert_no_repair_event();
}
