//! Fields that others add to children are removed if they change what runs or what is selected.

use std::time::Duration;

use serde_json::{Value, json};

use super::fake_api_server::Fault;
use super::harness::{Harness, SYNTHETIC};

type Edit = fn(&mut Value);

#[tokio::test]
async fn fields_added_to_children_are_removed_with_one_event() {
    let name = format!("iris-{}", Harness::new(SYNTHETIC).target_revision());
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
        // Before the operator has a record of the object, and after.
        for restarts in [true, false] {
            let mut harness = Harness::new(SYNTHETIC);
            harness.settle().await;
            if restarts {
                harness.restart_operator("predictor:1");
            }
            let before = harness.cluster().get(plural, child).unwrap()["spec"].clone();
            harness.cluster().events.clear();
            harness.edit(plural, child, add);
            let added = harness.cluster().get(plural, child).unwrap()["spec"].clone();
            assert_ne!(added, before);
            harness.settle().await;
            assert_eq!(harness.cluster().get(plural, child).unwrap()["spec"], before, "{added}");
            let expected_message = format!(
                "Warning Repaired {kind} shop/{child} was changed outside the operator and has been restored; change the PredictorModel instead"
            );
            let cluster = harness.cluster();
            let repairs: Vec<_> = cluster.events.iter().filter(|event| event.contains("Repaired")).collect();
            assert_eq!(repairs, [&expected_message], "{added}");
        }
    }
}

#[tokio::test]
async fn labels_and_annotations_added_to_children_are_kept() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let name = format!("iris-{}", harness.target_revision());
    harness.cluster().writes.clear();
    harness.edit("deployments", &name, |deployment| {
        deployment["metadata"]["labels"]["team"] = "red".into();
        deployment["metadata"]["annotations"] = json!({"team": "red"});
        // kubectl rollout restart
        deployment["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "now"});
    });
    harness.settle().await;
    let cluster = harness.cluster();
    let writes: Vec<_> = cluster.writes.iter().filter(|write| !write.starts_with("status ")).collect();
    assert_eq!(writes, Vec::<&String>::new());
}

#[tokio::test]
async fn a_model_is_not_ready_while_its_services_select_something_else() {
    for (service, is_available) in [("iris-pods", false), ("iris", true)] {
        let mut harness = Harness::new(SYNTHETIC);
        harness.settle().await;
        harness.inject_fault("PATCH", &format!("services/{service}"), 2, Fault::FailsBefore(500));
        harness.edit("services", service, |service| service["spec"]["selector"]["x"] = "y".into());
        for _ in 0..2 {
            assert!(harness.reconcile().await.is_err());
        }
        // This reconcile repairs the Service, but observed the state before.
        harness.reconcile().await.unwrap();
        let conditions = harness.conditions();
        assert_eq!(conditions[0].starts_with("Available True"), is_available, "{conditions:?}");
        let expected_message =
            format!("Ready False Starting: Service {service} does not select the pods of revision");
        assert!(conditions[1].starts_with(&expected_message), "{conditions:?}");
        harness.reconcile().await.unwrap();
        assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
    }
}

#[tokio::test]
async fn a_webhook_that_changes_each_write_does_not_cause_endless_writes() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.cluster().webhook =
        Some(("deployments", "/spec/template/spec/nodeSelector", json!({"pool": "models"})));
    harness.edit_spec(|spec| spec["scheduling"] = json!({"nodeSelector": {}}));
    harness.settle().await;
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
    harness.restart_operator("predictor:1");
    harness.settle().await;
    harness.cluster().writes.clear();
    for _ in 0..5 {
        harness.reconcile().await.unwrap();
    }
    assert_eq!(harness.cluster().writes, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn repairs_of_a_repeatedly_changed_object_back_off() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.cluster().writes.clear();
    let mut paused = None;
    for _ in 0..100 {
        harness.edit("services", "iris-pods", |service| service["spec"]["selector"]["x"] = "y".into());
        paused = harness.reconcile().await.unwrap();
    }
    let repairs = |harness: &Harness| {
        let cluster = harness.cluster();
        cluster.writes.iter().filter(|write| *write == "take from services iris-pods").count()
    };
    assert_eq!(repairs(&harness), 4, "{:?}", harness.cluster().writes);
    let paused = paused.unwrap();
    assert!(paused <= Duration::from_secs(5), "{paused:?}");
    // Other children are repaired at once.
    harness.delete("services", "iris");
    harness.reconcile().await.unwrap();
    assert!(harness.cluster().get("services", "iris").is_some());
    tokio::time::advance(Duration::from_secs(5)).await;
    harness.settle().await;
    assert_eq!(repairs(&harness), 5);
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
}

#[tokio::test]
async fn repeated_repairs_of_a_child_are_counted_in_one_event() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    for _ in 0..3 {
        harness.edit("services", "iris-pods", |service| service["spec"]["selector"]["x"] = "y".into());
        harness.settle().await;
    }
    let expected = "Warning Repaired Service shop/iris-pods was changed outside the operator and has been restored; \
                    change the PredictorModel instead";
    let cluster = harness.cluster();
    let repairs: Vec<_> = cluster.events.iter().filter(|event| event.contains("Repaired")).collect();
    assert_eq!(repairs, [expected, &format!("{expected} (x2)"), &format!("{expected} (x3)")]);
}

#[tokio::test]
async fn each_revision_has_its_own_event() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let first = harness.target_revision();
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    let expected = [first, harness.target_revision()]
        .map(|revision| format!("Normal Serving revision {revision} answers with all 2 pods"));
    assert_eq!(harness.cluster().events, expected);
}
