//! The `NetworkPolicy` of a model.

use serde_json::{Value, json};

use super::harness::{CALLERS, Harness, SYNTHETIC};

/// The spec of the model's `NetworkPolicy`.
fn spec(harness: &Harness) -> Option<Value> {
    harness.cluster().get("networkpolicies", "iris-pods").map(|policy| policy["spec"].clone())
}

fn expected() -> Value {
    let callers: Value = serde_json::from_str(CALLERS).unwrap();
    json!({
        "podSelector": {"matchLabels": {"canopy.rs/model-uid": "uid-predictormodels-iris"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": callers["predict"], "ports": [{"port": 8001, "protocol": "TCP"}]},
            {"from": callers["metrics"], "ports": [{"port": 9001, "protocol": "TCP"}]},
        ],
    })
}

#[tokio::test]
async fn the_network_policy_is_created_before_the_pods() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.reconcile().await.unwrap();
    assert_eq!(spec(&harness), Some(expected()));
    let writes = harness.cluster().writes.clone();
    assert_eq!(writes[0], "apply networkpolicies iris-pods", "{writes:?}");
    harness.settle().await;
    harness.cluster().writes.clear();
    harness.reconcile().await.unwrap();
    assert_eq!(harness.cluster().writes, [""; 0], "what is as it should be is not written again");
    let selector = &expected()["podSelector"]["matchLabels"];
    let uid = selector["canopy.rs/model-uid"].clone();
    assert!(
        harness.cluster().of_kind("pods").all(|pod| pod["metadata"]["labels"]["canopy.rs/model-uid"] == uid)
    );
}

#[tokio::test]
async fn additions_to_the_network_policy_are_removed() {
    let edits: [fn(&mut Value); 6] = [
        |spec| spec["ingress"].as_array_mut().unwrap().push(json!({})),
        |spec| drop(spec["ingress"][1].as_object_mut().unwrap().remove("from")),
        |spec| spec["ingress"][0]["from"].as_array_mut().unwrap().push(json!({"namespaceSelector": {}})),
        |spec| {
            spec["ingress"][0]["ports"].as_array_mut().unwrap().push(json!({"port": 22, "protocol": "TCP"}));
        },
        |spec| spec["podSelector"]["matchLabels"]["never"] = json!("there"),
        |spec| spec["policyTypes"] = json!(["Egress"]),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut harness = Harness::new(SYNTHETIC);
        harness.settle().await;
        harness.edit("networkpolicies", "iris-pods", |policy| edit(&mut policy["spec"]));
        harness.settle().await;
        assert_eq!(spec(&harness), Some(expected()), "edit {number}");
        let expected_message =
            harness.cluster().events.iter().any(|event| event.contains("Repaired NetworkPolicy"));
        assert!(expected_message, "edit {number}: {:?}", harness.cluster().events);
    }
}

#[tokio::test]
async fn an_empty_list_of_peers_allows_no_client() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.restart_operator_with_callers(Some(r#"{"predict": [{"podSelector": {}}], "metrics": []}"#));
    harness.settle().await;
    let rule = json!({"from": [{"podSelector": {}}], "ports": [{"port": 8001, "protocol": "TCP"}]});
    assert_eq!(spec(&harness).unwrap()["ingress"], json!([rule]));
    harness.restart_operator_with_callers(Some("{}"));
    harness.settle().await;
    let spec = spec(&harness).unwrap();
    assert_eq!((&spec["ingress"], &spec["policyTypes"]), (&json!([]), &json!(["Ingress"])));
}

#[tokio::test]
async fn without_callers_only_own_network_policies_are_deleted() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.restart_operator_with_callers(None);
    harness.settle().await;
    assert_eq!(spec(&harness), None);
    harness.assert_no_repair_event();

    let theirs = json!({"metadata": {"name": "iris-pods"}, "spec": {"podSelector": {}}});
    let key = super::fake_cluster::key("networkpolicies", "shop", "iris-pods");
    let stored = harness.cluster().store(key, theirs);
    harness.settle().await;
    assert_eq!(harness.cluster().get("networkpolicies", "iris-pods"), Some(&stored));
    assert!(harness.conditions()[1].starts_with("Ready True"), "{:?}", harness.conditions());
}

#[tokio::test]
async fn a_change_of_callers_updates_the_network_policy_and_no_pod() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    harness.cluster().writes.clear();
    harness.restart_operator_with_callers(Some(r#"{"predict": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}"#));
    harness.settle().await;
    assert_eq!(harness.cluster().writes, ["apply networkpolicies iris-pods"]);
    harness.assert_no_repair_event();
}
