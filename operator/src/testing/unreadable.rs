//! Models that this operator cannot decode, beside one that it can.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::bench::{Bench, SYNTHETIC};
use crate::caches::undecodable::Unreadable;
use crate::controller::report_undecodable;
use canopy_resource::model::PredictorModel;
use kube::core::DeserializeGuard;

fn guarded(model: &Value) -> DeserializeGuard<PredictorModel> {
    serde_json::from_value(model.clone()).unwrap()
}

#[tokio::test]
async fn a_model_that_cannot_be_decoded_is_named_in_its_status_and_an_event() {
    let mut bench = Bench::new(SYNTHETIC);
    bench.settle().await;
    let revision = bench.model().status.unwrap().revision;
    let mut model = bench.world().get("predictormodels", "iris").unwrap().clone();
    model["spec"]["train"]["gate"] = json!({"metric": "R2", "min": "0.5"});
    let unreadable = Unreadable::default();
    let faulty = unreadable.insert(guarded(&model).0.unwrap_err()).unwrap();
    assert!(unreadable.has_models("shop") && !unreadable.has_models("other"));
    assert!(unreadable.insert(guarded(&model).0.unwrap_err()).is_none(), "it is told once");

    bench.world().events.clear();
    let (sender, news) = mpsc::channel(1);
    sender.send(faulty).await.unwrap();
    drop(sender);
    report_undecodable::run(news, bench.cluster()).await;
    let events = bench.world().events.join("\n");
    assert!(events.starts_with("Warning SpecInvalid this operator cannot read the model: "), "{events}");
    assert!(events.contains("R2"), "{events}");
    let said = bench.conditions();
    assert!(said.len() == 1 && said[0].starts_with("Ready False SpecInvalid: "), "{said:?}");
    assert_eq!(bench.model().status.unwrap().revision, revision, "the rest of the status stays");
}
