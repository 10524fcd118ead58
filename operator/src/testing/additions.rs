//! What others add to children: it is taken away where it changes what runs or what is selected.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench::{Bench, SYNTHETIC};
use super::server::Disturbance;

type Edit = fn(&mut Value);

#[tokio::test]
async fn what_is_added_to_a_child_is_taken_away_and_told_once_for_each_time() {
    let name = format!("iris-{}", Bench::new(SYNTHETIC).asked());
    let additions: [(&str, &str, &str, Edit); 9] = [
        ("Service", "services", "iris-pods", |o| o["spec"]["selector"]["x"] = "y".into()),
        ("Service", "services", "iris", |o| o["spec"]["selector"]["x"] = "y".into()),
        ("Service", "services", "iris-pods", |o| o["spec"]["publishNotReadyAddresses"] = true.into()),
        ("PodDisruptionBudget", "poddisruptionbudgets", "iris", |o| {
            o["spec"]["selector"]["matchLabels"]["x"] = "y".into();
        }),
        ("Deployment", "deployments", &name, |o| {
            o["spec"]["template"]["metadata"]["labels"]["x"] = "y".into();
        }),
        ("Deployment", "deployments", &name, |o| {
            o["spec"]["template"]["spec"]["containers"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "sidecar"}));
        }),
        ("Deployment", "deployments", &name, |o| {
            o["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "X", "value": "y"}]);
        }),
        ("Deployment", "deployments", &name, |o| {
            o["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        }),
        ("Deployment", "deployments", &name, |o| {
            o["spec"]["template"]["spec"]["serviceAccountName"] = "admin".into();
        }),
    ];
    for (kind, plural, child, add) in additions {
        // Before the operator knows the object, and after.
        for restarts in [true, false] {
            let mut bench = Bench::new(SYNTHETIC);
            bench.settle().await;
            if restarts {
                bench.restart_operator("predictor:1");
            }
            let before = bench.world().get(plural, child).unwrap()["spec"].clone();
            bench.world().events.clear();
            bench.edit(plural, child, add);
            let added = bench.world().get(plural, child).unwrap()["spec"].clone();
            assert_ne!(added, before);
            bench.settle().await;
            assert_eq!(bench.world().get(plural, child).unwrap()["spec"], before, "{added}");
            let told = format!(
                "Warning Repaired {kind} shop/{child} was changed by somebody else and is as it was again; change the model instead"
            );
            let world = bench.world();
            let repairs: Vec<_> = world.events.iter().filter(|event| event.contains("Repaired")).collect();
            assert_eq!(repairs, [&told], "{added}");
        }
    }
}

#[tokio::test]
async fn labels_and_annotations_of_others_on_children_stay() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let name = format!("iris-{}", bench.asked());
    bench.world().writes.clear();
    bench.edit("deployments", &name, |deployment| {
        deployment["metadata"]["labels"]["team"] = "red".into();
        deployment["metadata"]["annotations"] = json!({"team": "red"});
        // kubectl rollout restart
        deployment["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "now"});
    });
    bench.settle().await;
    let world = bench.world();
    let writes: Vec<_> = world.writes.iter().filter(|write| !write.starts_with("status ")).collect();
    assert_eq!(writes, Vec::<&String>::new());
}

#[tokio::test]
async fn a_model_is_not_ready_while_its_services_select_something_else() {
    for (service, is_available) in [("iris-pods", false), ("iris", true)] {
        let mut bench = Bench::new(SYNTHETIC);
        bench.settle().await;
        bench.disturb("PATCH", &format!("services/{service}"), 2, Disturbance::FailsBefore(500));
        bench.edit("services", service, |service| service["spec"]["selector"]["x"] = "y".into());
        for _ in 0..2 {
            assert!(bench.pass().await.is_err());
        }
        // It is repaired now, and was not when this pass began.
        bench.pass().await.unwrap();
        let said = bench.conditions();
        assert_eq!(said[0].starts_with("Available True"), is_available, "{said:?}");
        let told = format!("Ready False Starting: Service {service} does not select the pods of revision");
        assert!(said[1].starts_with(&told), "{said:?}");
        bench.pass().await.unwrap();
        assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
    }
}

#[tokio::test]
async fn a_webhook_that_adds_to_each_write_does_not_make_the_operator_write_for_ever() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.world().webhook =
        Some(("deployments", "/spec/template/spec/nodeSelector", json!({"pool": "models"})));
    bench.edit_spec(|spec| spec["scheduling"] = json!({"nodeSelector": {}}));
    bench.settle().await;
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
    bench.restart_operator("predictor:1");
    bench.settle().await;
    bench.world().writes.clear();
    for _ in 0..5 {
        bench.pass().await.unwrap();
    }
    assert_eq!(bench.world().writes, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_a_field_slows_down_and_ends_with_it() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.world().writes.clear();
    let mut paused = None;
    for _ in 0..100 {
        bench.edit("services", "iris-pods", |service| service["spec"]["selector"]["x"] = "y".into());
        paused = bench.pass().await.unwrap();
    }
    let repairs = |bench: &Bench| {
        let world = bench.world();
        world.writes.iter().filter(|write| *write == "take from services iris-pods").count()
    };
    assert_eq!(repairs(&bench), 4, "{:?}", bench.world().writes);
    let paused = paused.unwrap();
    assert!(paused <= Duration::from_secs(5), "{paused:?}");
    // Other children are repaired at once.
    bench.delete("services", "iris");
    bench.pass().await.unwrap();
    assert!(bench.world().get("services", "iris").is_some());
    tokio::time::advance(Duration::from_secs(5)).await;
    bench.settle().await;
    assert_eq!(repairs(&bench), 5);
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
}
