//! Faults of the API server and crashes of the operator at any write of a rollout.

use serde_json::json;

use super::fake_cluster::PodBehavior;
use super::harness::{Harness, SYNTHETIC};

/// A lifecycle: creation, a change, a refused change, scaling, and a good change. Returns the final state, which must
/// not depend on faults.
async fn live(mut harness: Harness) -> (Harness, String) {
    harness.settle().await;
    harness.edit_spec(|spec| spec["version"] = "1.1".into());
    harness.settle().await;
    harness.cluster().advance_time(61);
    harness.settle().await;

    let good = harness.target_revision();
    harness.edit_spec(|spec| spec["train"]["gate"] = json!({"metric": "Accuracy", "min": 1}));
    harness.set_next_behavior(PodBehavior::Refused("gate_missed"));
    harness.settle().await;
    assert_eq!(harness.revisions()[&good], (2, 2), "what served before a refusal serves on");
    harness.edit_spec(|spec| spec["replicas"] = 3.into());
    harness.settle().await;
    assert_eq!(harness.revisions()[&good], (3, 3), "what serves is what is scaled");

    harness.edit_spec(|spec| spec["train"]["gate"] = json!({"metric": "Accuracy", "min": 0}));
    harness.settle().await;
    harness.cluster().advance_time(61);
    harness.settle().await;
    let names: Vec<_> =
        harness.cluster().objects.keys().map(|(kind, _, name)| format!("{kind} {name}")).collect();
    let conditions = harness.conditions().join("\n");
    let selected = (harness.selected_by("iris"), harness.selected_by("iris-pods"));
    let end = format!("{names:#?}\n{conditions}\n{selected:?}\n{:?}", harness.revisions());
    (harness, end)
}

#[tokio::test]
async fn the_result_is_the_same_whichever_write_fails_and_the_model_always_serves() {
    let (undisturbed, expected) = live(Harness::new(SYNTHETIC)).await;
    assert_eq!(undisturbed.switches, 2);
    let events = undisturbed.cluster().events.len();
    let writes = undisturbed.cluster().writes.len() + events;
    assert!(writes > 30, "{writes}");
    for (at, has_effect) in (0..writes).flat_map(|at| [(at, false), (at, true)]) {
        let harness = Harness::new(SYNTHETIC);
        harness.cluster().fails_after_writes = Some(at);
        harness.cluster().failed_write_has_effect = has_effect;
        let (harness, end) = live(harness).await;
        let failed = format!("write {at} failed, with effect: {has_effect}");
        assert_eq!(end, expected, "{failed}: {:#?}", harness.cluster().writes);
        assert_eq!(harness.switches, 2, "{failed}");
    }
}

#[tokio::test]
async fn another_operator_continues_after_a_crash_at_any_write() {
    // The worst case: the operator ends after the first write of a switch.
    for (at, has_effect) in (0..12).flat_map(|at| [(at, false), (at, true)]) {
        let mut harness = Harness::new(SYNTHETIC);
        harness.settle().await;
        let old = harness.target_revision();
        harness.edit_spec(|spec| spec["version"] = "1.1".into());
        harness.cluster().fails_after_writes = Some(at);
        harness.cluster().failed_write_has_effect = has_effect;
        for _ in 0..8 {
            drop(harness.reconcile().await);
            let failed = harness.cluster().fails_after_writes.is_none();
            if failed {
                break;
            }
            harness.cluster().step();
        }
        harness.cluster().fails_after_writes = None;
        harness.restart_operator("predictor:2");
        harness.settle().await;
        assert_eq!(harness.selected_by("iris"), Some(harness.target_revision()), "write {at}, {has_effect}");
        assert_eq!(
            harness.selected_by("iris-pods"),
            Some(harness.target_revision()),
            "write {at}, {has_effect}"
        );
        assert_eq!(harness.revisions()[&old], (2, 2), "write {at}, {has_effect}");
        assert_eq!(harness.switches, 1, "write {at}, {has_effect}");
    }
}
