//! A change of revision, as people cause it.

use serde_json::{Value, json};

use super::bench::{Bench, SYNTHETIC};
use super::world::Fate;
use crate::pod::template::Program;

/// A bench on which the model serves with both pods.
async fn serving() -> Bench {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    assert_eq!(bench.revisions().into_values().collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(bench.selected_by("iris"), bench.selected_by("iris-pods"));
    bench
}

#[tokio::test]
async fn a_new_model_prepares_in_one_pod_and_then_gets_all_its_replicas() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.pass().await.unwrap();
    let revision = bench.asked();
    assert_eq!(bench.revisions(), [(revision.clone(), (1, 0))].into());
    assert_eq!(bench.selected_by("iris-pods"), Some(revision.clone()));
    bench.settle().await;
    let told = format!("Normal Serving revision {revision} answers with all 2 pods");
    assert_eq!(bench.revisions(), [(revision, (2, 2))].into());
    assert_eq!(bench.world().events, [told]);
}

#[tokio::test]
async fn a_changed_spec_is_switched_to_once_when_all_its_pods_are_ready_and_the_old_ones_stay_for_a_while() {
    let mut bench = serving().await;
    let old = bench.asked();
    let uids: Vec<_> = bench.world().of_kind("pods").map(|pod| pod["metadata"]["uid"].clone()).collect();
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    let new = bench.asked();

    bench.pass().await.unwrap();
    assert_eq!(bench.revisions(), [(old.clone(), (2, 2)), (new.clone(), (1, 0))].into());
    assert_eq!(bench.selected_by("iris-pods"), Some(old.clone()));
    bench.settle().await;
    assert_eq!(bench.revisions(), [(old.clone(), (2, 2)), (new.clone(), (2, 2))].into());
    assert_eq!(bench.selected_by("iris"), Some(new.clone()));
    assert_eq!(bench.selected_by("iris-pods"), Some(new.clone()));
    assert_eq!(bench.switches, 1);

    bench.world().wait(59);
    bench.settle().await;
    let stay: Vec<_> = bench.world().of_kind("pods").map(|pod| pod["metadata"]["uid"].clone()).collect();
    assert!(uids.iter().all(|uid| stay.contains(uid)), "{stay:?}");
    bench.world().wait(1);
    bench.settle().await;
    assert_eq!(bench.revisions(), [(new.clone(), (2, 2))].into());
    let names: Vec<_> = bench.world().of_kind("configmaps").map(|c| c["metadata"]["name"].clone()).collect();
    assert_eq!(names, [format!("iris-{new}")]);
    assert_eq!(bench.switches, 1);
}

#[tokio::test]
async fn passes_come_back_by_themselves_for_what_only_time_changes() {
    let mut bench = serving().await;
    assert_eq!(bench.pass().await.unwrap(), None);
    bench.edit_spec(|spec| {
        spec["version"] = "1.1".into();
        spec["train"]["deadlineSeconds"] = 30.into();
    });
    bench.fate_of_next(Fate::Slow);
    bench.settle().await;
    bench.world().wait(10);
    assert_eq!(bench.pass().await.unwrap().unwrap().as_secs(), 20);

    bench.fate_of_next(Fate::Good);
    bench.settle().await;
    bench.world().wait(10);
    assert_eq!(bench.pass().await.unwrap().unwrap().as_secs(), 50);
    bench.world().wait(50);
    bench.settle().await;
    assert_eq!(bench.pass().await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_revision_is_scaled_to_zero_and_not_tried_again_while_the_old_one_serves() {
    let mut bench = serving().await;
    let old = bench.asked();
    bench.edit_spec(|spec| spec["train"]["gate"] = json!({"metric": "Accuracy", "min": "0.99"}));
    let new = bench.asked();
    bench.fate_of_next(Fate::Refused("gate_missed"));
    bench.settle().await;
    assert_eq!(bench.revisions(), [(old.clone(), (2, 2)), (new.clone(), (0, 0))].into());
    assert_eq!(bench.selected_by("iris-pods"), Some(old.clone()));
    let refused = bench.model().status.unwrap().refused.unwrap();
    assert_eq!((refused.revision, refused.reason.as_str()), (new.clone(), "GateMissed"));

    // Another operator, another image, and even good pods change nothing: only spec and data do.
    bench.fate_of_next(Fate::Good);
    bench.restart_operator("predictor:2");
    bench.world().wait(600);
    bench.settle().await;
    assert_eq!(bench.revisions(), [(old.clone(), (2, 2)), (new.clone(), (0, 0))].into());

    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    let newest = bench.asked();
    bench.settle().await;
    bench.world().wait(60);
    bench.settle().await;
    assert_eq!(bench.revisions(), [(newest, (2, 2))].into());
    assert!(bench.model().status.unwrap().refused.is_none());
}

#[tokio::test]
async fn a_first_revision_that_is_refused_gives_way_to_the_next_at_once() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.fate_of_next(Fate::Refused("data_invalid"));
    bench.settle().await;
    let refused = bench.asked();
    assert_eq!(bench.revisions(), [(refused, (0, 0))].into());
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.pass().await.unwrap();
    assert_eq!(bench.revisions(), [(bench.asked(), (1, 0))].into());
    assert_eq!(bench.selected_by("iris"), Some(bench.asked()));
}

#[tokio::test]
async fn a_candidate_that_is_no_longer_asked_for_goes_at_once() {
    let mut bench = serving().await;
    let old = bench.asked();
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.fate_of_next(Fate::Unready);
    bench.settle().await;
    assert_eq!(bench.revisions()[&bench.asked()], (1, 0));
    bench.edit_spec(|spec| spec["version"] = "1.0".into());
    bench.settle().await;
    assert_eq!(bench.revisions(), [(old, (2, 2))].into());
    assert_eq!(bench.switches, 0);
}

#[tokio::test]
async fn what_was_replaced_a_moment_ago_can_be_returned_to_without_training() {
    let mut bench = serving().await;
    let old = bench.asked();
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    bench.world().wait(30);
    let uids = |bench: &Bench| -> Vec<_> {
        let world = bench.world();
        let old_pods =
            world.of_kind("pods").filter(|pod| pod["metadata"]["labels"]["canopy.rs/revision"] == old);
        old_pods.map(|pod| pod["metadata"]["uid"].clone()).collect()
    };
    let before = uids(&bench);
    bench.edit_spec(|spec| spec["version"] = "1.0".into());
    bench.settle().await;
    assert_eq!(bench.selected_by("iris-pods").as_ref(), Some(&old));
    assert_eq!(uids(&bench), before);
    bench.world().wait(60);
    bench.settle().await;
    assert_eq!(bench.revisions(), [(old.clone(), (2, 2))].into());
}

#[tokio::test]
async fn scaling_makes_no_revision_and_reaches_the_revision_that_serves() {
    let mut bench = serving().await;
    let revision = bench.asked();
    for (replicas, budget) in [(5, true), (1, false), (0, false), (3, true)] {
        bench.edit_spec(|spec| spec["replicas"] = replicas.into());
        bench.settle().await;
        assert_eq!(bench.revisions(), [(revision.clone(), (replicas, replicas))].into());
        assert_eq!(bench.world().get("poddisruptionbudgets", "iris").is_some(), budget, "{replicas}");
    }
    bench.tells_of_no_repair();
}

#[tokio::test]
async fn nothing_that_is_paused_is_touched() {
    let mut bench = serving().await;
    let old = bench.asked();
    bench.edit_spec(|spec| {
        spec["paused"] = true.into();
        spec["version"] = "1.1".into();
        spec["replicas"] = 5.into();
    });
    bench.world().writes.clear();
    bench.settle().await;
    assert_eq!(bench.world().writes, ["status iris"]);
    bench.edit_spec(|spec| spec["paused"] = false.into());
    bench.settle().await;
    assert_eq!(bench.revisions(), [(old, (5, 5)), (bench.asked(), (5, 5))].into());
}

#[tokio::test]
async fn a_restart_that_is_asked_for_is_a_change_of_revision() {
    let mut bench = serving().await;
    let old = bench.asked();
    bench.edit("predictormodels", "iris", |model| {
        model["metadata"]["annotations"] = json!({"canopy.rs/restartedAt": "2026-05-04"});
    });
    bench.settle().await;
    assert_ne!(bench.asked(), old);
    assert_eq!(bench.selected_by("iris-pods"), Some(bench.asked()));
    assert_eq!(bench.switches, 1);
}

#[tokio::test]
async fn a_newer_operator_does_not_restart_what_serves_and_repairs_it_as_it_was() {
    let mut bench = serving().await;
    let name = format!("iris-{}", bench.asked());
    let spec = bench.world().get("deployments", &name).unwrap()["spec"].clone();
    bench.world().writes.clear();
    bench.restart_operator("predictor:2");
    bench.settle().await;
    assert_eq!(bench.world().writes, Vec::<String>::new());
    bench.delete("deployments", &name);
    bench.settle().await;
    assert_eq!(bench.world().get("deployments", &name).unwrap()["spec"], spec);
    assert_eq!(bench.revisions()[&bench.asked()], (2, 2));
}

#[tokio::test]
async fn predictors_of_new_revisions_send_their_traces_to_where_the_operator_was_told() {
    let mut bench = serving().await;
    let variables = |bench: &Bench| {
        let name = format!("iris-{}", bench.asked());
        let deployment = bench.world().get("deployments", &name).unwrap().clone();
        let pod = &deployment["spec"]["template"]["spec"];
        let of = |container: &Value| -> Vec<Value> {
            let all = container["env"].as_array().into_iter().flatten();
            // What the serving config must be stands there too.
            all.filter(|variable| variable["name"] != "CANOPY_CONFIG_SHA256").cloned().collect()
        };
        assert_eq!(of(&pod["initContainers"][0]), Vec::<Value>::new(), "to prepare is not traced");
        of(&pod["containers"][0])
    };
    let told = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318".to_owned())];
    bench.restart_operator_for(Program {
        image: "predictor:1".to_owned(),
        variables: told,
        ..Program::default()
    });
    bench.settle().await;
    assert_eq!(variables(&bench), Vec::<Value>::new(), "what serves is not restarted");
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    let expected = [json!({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"})];
    assert_eq!(variables(&bench), expected);
}

#[tokio::test]
async fn a_watch_that_lags_takes_no_old_revision_before_its_time() {
    let mut bench = serving().await;
    let old = bench.asked();
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    // Whatever the other watches still show, the Service has both: who is selected, and who was, since when.
    for seen in
        [&["services"][..], &["deployments", "pods"], &["services"], &["deployments"], &["pods", "services"]]
    {
        for _ in 0..4 {
            bench.watch(seen);
            bench.pass_without_watching().await.unwrap();
            bench.world().step();
            assert_eq!(bench.revisions()[&old], (2, 2));
        }
    }
    bench.settle().await;
    assert_eq!(bench.selected_by("iris-pods"), Some(bench.asked()));
    assert_eq!((bench.switches, bench.revisions()[&old]), (1, (2, 2)));
    bench.tells_of_no_repair();
}
