//! A predictor that changes its revision: responses are interpreted with the description of the revision that gave them.

use serde_json::json;

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW};

#[tokio::test]
async fn a_response_of_a_new_revision_uses_its_description() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    assert_eq!(gateway.predict().await.header("canopy-revision"), "6f3a9c1e");
    predictor.change_revision("00000002", |model| {
        model["version"] = json!("2.0");
        model["classes"] = json!(["no", "yes"]);
    });
    let answered = gateway.predict().await;
    assert_eq!(answered.header("canopy-revision"), "00000002");
    assert_eq!(answered.json()["version"], "2.0");
    assert_eq!(answered.json()["prediction"], json!({"class": 1, "label": "yes", "proba": 0.87}));
    assert_eq!((predictor.descriptions(), predictor.predictions()), (2, 2), "no request is repeated");
    gateway.predict().await.class();
    assert_eq!(predictor.descriptions(), 2, "the description is kept");
}

#[tokio::test]
async fn rows_invalid_for_a_new_revision_are_rejected_even_if_it_answered_them() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.class();
    predictor.change_revision("00000002", |model| model["features"][1]["max"] = json!(1.5));
    let answered = gateway.predict().await;
    answered.problem(422, "invalid_features");
    let errors = json!({"features.1": ["b must be between -10 and 1.5, but is 2"]});
    assert_eq!(answered.json()["errors"], errors);
}

#[tokio::test]
async fn a_rejection_by_a_new_revision_is_explained_with_its_description() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.class();
    predictor.change_revision("00000002", |model| model["features"] = json!([{"name": "a"}, {"name": "b"}]));
    predictor.set_predict_behavior(Behavior::Answer(400, r#"{"detail":"Invalid features"}"#.into()));
    let answered = gateway.predict().await;
    answered.problem(422, "invalid_features");
    let length = "must have 2 values, one per feature of the model, but has 4";
    assert_eq!(answered.json()["errors"], json!({"features": [length]}));
    predictor.set_predict_behavior(Behavior::Normal);
    gateway.post("/api/predict", r#"{"features":[1,2]}"#).await.class();
}

#[tokio::test]
async fn rows_valid_for_the_new_revision_are_sent_again() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.class();
    predictor.change_revision("00000002", |_| ());
    predictor.set_predict_behavior(Behavior::Answer(400, r#"{"detail":"Invalid features"}"#.into()));
    // The same revision rejects the same rows again, which is final.
    gateway.predict().await.problem(422, "invalid_features");
    assert_eq!((predictor.descriptions(), predictor.predictions()), (2, 3));
}

#[tokio::test]
async fn a_predictor_that_never_responds_as_its_description_has_failed() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    *predictor.script.revision.lock().unwrap() = Some("00000009".to_owned());
    gateway.predict().await.problem(503, "predictor_failed");
    assert_eq!(predictor.predictions(), 3, "the attempts are bounded");
    *predictor.script.revision.lock().unwrap() = None;
    gateway.post("/api/predict", ROW).await.class();
}

#[tokio::test]
async fn listings_show_a_new_revision_without_a_prediction() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.class();
    predictor.change_revision("00000002", |_| ());
    assert_eq!(gateway.get("/api/models/demo").await.json()["revision"], "00000002");
    assert_eq!(gateway.get("/api/models").await.json()["models"][0]["revision"], "00000002");
}
