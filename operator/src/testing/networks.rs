//! Who may call the pods of a model.

use serde_json::{Value, json};

use super::bench::{Bench, CALLERS, SYNTHETIC};

/// The spec of the model's `NetworkPolicy`.
fn spec(bench: &Bench) -> Option<Value> {
    bench.world().get("networkpolicies", "iris-pods").map(|policy| policy["spec"].clone())
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
async fn a_model_is_shielded_before_it_has_pods() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.pass().await.unwrap();
    assert_eq!(spec(&bench), Some(expected()));
    let writes = bench.world().writes.clone();
    assert_eq!(writes[0], "apply networkpolicies iris-pods", "{writes:?}");
    bench.settle().await;
    bench.world().writes.clear();
    bench.pass().await.unwrap();
    assert_eq!(bench.world().writes, [""; 0], "what is as it should be is not written again");
    let selector = &expected()["podSelector"]["matchLabels"];
    let uid = selector["canopy.rs/model-uid"].clone();
    assert!(bench.world().of_kind("pods").all(|pod| pod["metadata"]["labels"]["canopy.rs/model-uid"] == uid));
}

#[tokio::test]
async fn whatever_is_added_to_a_policy_is_taken_out_again() {
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
        let mut bench = Bench::new(SYNTHETIC);
        bench.settle().await;
        bench.edit("networkpolicies", "iris-pods", |policy| edit(&mut policy["spec"]));
        bench.settle().await;
        assert_eq!(spec(&bench), Some(expected()), "edit {number}");
        let told = bench.world().events.iter().any(|event| event.contains("Repaired NetworkPolicy"));
        assert!(told, "edit {number}: {:?}", bench.world().events);
    }
}

#[tokio::test]
async fn a_list_without_peers_admits_none_rather_than_all() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.restart_operator_with(Some(r#"{"predict": [{"podSelector": {}}], "metrics": []}"#));
    bench.settle().await;
    let rule = json!({"from": [{"podSelector": {}}], "ports": [{"port": 8001, "protocol": "TCP"}]});
    assert_eq!(spec(&bench).unwrap()["ingress"], json!([rule]));
    bench.restart_operator_with(Some("{}"));
    bench.settle().await;
    let spec = spec(&bench).unwrap();
    assert_eq!((&spec["ingress"], &spec["policyTypes"]), (&json!([]), &json!(["Ingress"])));
}

#[tokio::test]
async fn an_operator_that_limits_nothing_removes_the_policies_that_were_made_and_no_others() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.restart_operator_with(None);
    bench.settle().await;
    assert_eq!(spec(&bench), None);
    bench.tells_of_no_repair();

    let theirs = json!({"metadata": {"name": "iris-pods"}, "spec": {"podSelector": {}}});
    let key = super::world::key("networkpolicies", "shop", "iris-pods");
    let stored = bench.world().store(key, theirs);
    bench.settle().await;
    assert_eq!(bench.world().get("networkpolicies", "iris-pods"), Some(&stored));
    assert!(bench.conditions()[1].starts_with("Ready True"), "{:?}", bench.conditions());
}

#[tokio::test]
async fn a_change_of_callers_changes_the_policy_and_no_pod() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    bench.world().writes.clear();
    bench.restart_operator_with(Some(r#"{"predict": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}"#));
    bench.settle().await;
    assert_eq!(bench.world().writes, ["apply networkpolicies iris-pods"]);
    bench.tells_of_no_repair();
}
