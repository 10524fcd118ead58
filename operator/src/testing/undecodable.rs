//! Models that this operator cannot decode.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::harness::{Harness, SYNTHETIC};
use crate::caches::undecodable::UndecodableModels;
use crate::controller::report_undecodable;
use canopy_resource::model::PredictorModel;
use kube::core::DeserializeGuard;

fn guarded(model: &Value) -> DeserializeGuard<PredictorModel> {
    serde_json::from_value(model.clone()).unwrap()
}

#[tokio::test]
async fn an_undecodable_model_is_reported_in_its_status_and_an_event() {
    let mut harness = Harness::new(SYNTHETIC);
    harness.settle().await;
    let revision = harness.model().status.unwrap().revision;
    let mut model = harness.cluster().get("predictormodels", "iris").unwrap().clone();
    model["spec"]["train"]["gate"] = json!({"metric": "F1", "min": "0.5"});
    let undecodable = UndecodableModels::default();
    let undecodable_model = undecodable.insert(guarded(&model).0.unwrap_err()).unwrap();
    assert!(undecodable.has_models("shop") && !undecodable.has_models("other"));
    assert!(undecodable.insert(guarded(&model).0.unwrap_err()).is_none(), "it is reported once");

    harness.cluster().events.clear();
    let (sender, news) = mpsc::channel(1);
    sender.send(undecodable_model).await.unwrap();
    drop(sender);
    report_undecodable::run(news, harness.apply_cluster()).await;
    let events = harness.cluster().events.join("\n");
    assert!(
        events.starts_with("Warning SpecInvalid this version of the operator cannot decode the model: "),
        "{events}"
    );
    assert!(events.contains("F1"), "{events}");
    let conditions = harness.conditions();
    assert!(
        conditions.len() == 1 && conditions[0].starts_with("Ready False SpecInvalid: "),
        "{conditions:?}"
    );
    assert_eq!(harness.model().status.unwrap().revision, revision, "the rest of the status stays");
}
