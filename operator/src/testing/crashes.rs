//! An API server that fails, or an operator that ends, at any write of a change of revision.

use serde_json::json;

use super::bench::{Bench, SYNTHETIC};
use super::world::Fate;

/// A life: it comes, is changed, is changed to something bad, is scaled, and is good again. At its end, what must
/// be the same whatever happened on the way.
async fn live(mut bench: Bench) -> (Bench, String) {
    bench.settle().await;
    bench.edit_spec(|spec| spec["version"] = "1.1".into());
    bench.settle().await;
    bench.world().wait(61);
    bench.settle().await;

    let good = bench.asked();
    bench.edit_spec(|spec| spec["train"]["gate"] = json!({"metric": "Accuracy", "min": 1}));
    bench.fate_of_next(Fate::Refused("gate_missed"));
    bench.settle().await;
    assert_eq!(bench.revisions()[&good], (2, 2), "what served before a refusal serves on");
    bench.edit_spec(|spec| spec["replicas"] = 3.into());
    bench.settle().await;
    assert_eq!(bench.revisions()[&good], (3, 3), "what serves is what is scaled");

    bench.edit_spec(|spec| spec["train"]["gate"] = json!({"metric": "Accuracy", "min": 0}));
    bench.settle().await;
    bench.world().wait(61);
    bench.settle().await;
    let names: Vec<_> =
        bench.world().objects.keys().map(|(kind, _, name)| format!("{kind} {name}")).collect();
    let said = bench.conditions().join("\n");
    let selected = (bench.selected_by("iris"), bench.selected_by("iris-pods"));
    let end = format!("{names:#?}\n{said}\n{selected:?}\n{:?}", bench.revisions());
    (bench, end)
}

#[tokio::test]
async fn whichever_write_fails_the_end_is_the_same_and_nobody_was_left_without_an_answer() {
    let (undisturbed, expected) = live(Bench::new(SYNTHETIC)).await;
    assert_eq!(undisturbed.switches, 2);
    let events = undisturbed.world().events.len();
    let writes = undisturbed.world().writes.len() + events;
    assert!(writes > 30, "{writes}");
    for at in 0..writes {
        let bench = Bench::new(SYNTHETIC);
        bench.world().fails_after = Some(at);
        let (bench, end) = live(bench).await;
        assert_eq!(end, expected, "write {at} failed: {:#?}", bench.world().writes);
        assert_eq!(bench.switches, 2, "write {at} failed");
    }
}

#[tokio::test]
async fn an_operator_that_ends_after_any_write_is_continued_by_another() {
    // What a switch leaves behind in the worst moment: the first write of it done, and nobody there.
    for at in 0..12 {
        let mut bench = Bench::new(SYNTHETIC);
        bench.settle().await;
        let old = bench.asked();
        bench.edit_spec(|spec| spec["version"] = "1.1".into());
        bench.world().fails_after = Some(at);
        for _ in 0..8 {
            drop(bench.pass().await);
            let failed = bench.world().fails_after.is_none();
            if failed {
                break;
            }
            bench.world().step();
        }
        bench.world().fails_after = None;
        bench.restart_operator("predictor:2");
        bench.settle().await;
        assert_eq!(bench.selected_by("iris"), Some(bench.asked()), "write {at}");
        assert_eq!(bench.selected_by("iris-pods"), Some(bench.asked()), "write {at}");
        assert_eq!(bench.revisions()[&old], (2, 2), "write {at}");
        assert_eq!(bench.switches, 1, "write {at}");
    }
}
