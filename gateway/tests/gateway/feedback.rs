//! Feedback on predictions: stored once, counted once, and validated.

use std::path::Path;

use canopy_gateway::settings::Settings;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_predictor::FakePredictor;
use crate::gateway::{Gateway, settings};

/// The settings of a gateway with `predictor` as `demo` and a database at `path`.
pub(crate) fn recording(predictor: &FakePredictor, path: &Path) -> Settings {
    let url = format!("sqlite://{}", path.display());
    Settings { database_url: Some(url), ..settings(&[("demo", predictor)]) }
}

async fn setup() -> (TempDir, FakePredictor, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::new(&recording(&predictor, &folder.path().join("canopy.db"))).await;
    (folder, predictor, gateway)
}

fn series(result: &str) -> String {
    format!(
        r#"canopy_feedback_total{{model="demo",model_namespace="default",result="{result}",version="1.0"}}"#
    )
}

#[tokio::test]
async fn feedback_right_after_the_prediction_is_accepted_and_counted_by_model_and_version() {
    let (_folder, _predictor, gateway) = setup().await;
    let (right, wrong) = (gateway.predict_id().await, gateway.predict_id().await);
    let told = gateway.send_feedback(&right, r#"{"actual":1}"#).await;
    assert_eq!((told.status, told.json()), (202, json!({"id": right, "rows": 1, "correct": 1})));
    assert_eq!(gateway.send_feedback(&wrong, r#"{"actual":0}"#).await.json()["correct"], 0);
    assert_eq!((gateway.metric(&series("correct")), gateway.metric(&series("wrong"))), (1, 1));
    let accepted = r#"canopy_gateway_requests_total{code="202",model="",model_namespace="",reason="accepted",version=""}"#;
    assert_eq!(gateway.metric(accepted), 2);
}

#[tokio::test]
async fn second_feedback_is_rejected_and_the_first_one_stays() {
    let (_folder, _predictor, gateway) = setup().await;
    let id = gateway.predict_id().await;
    assert_eq!(gateway.send_feedback(&id, r#"{"actual":1}"#).await.status, 202);
    for again in [r#"{"actual":1}"#, r#"{"actual":0}"#] {
        let problem = gateway.send_feedback(&id, again).await.problem(409, "feedback_given");
        assert_eq!(problem.detail, format!("prediction {id} has feedback already, which cannot be changed"));
    }
    assert_eq!((gateway.metric(&series("correct")), gateway.metric(&series("wrong"))), (1, 0));
    assert_eq!(gateway.get(&format!("/api/predictions/{id}")).await.json()["feedback"]["actual"], 1);
}

#[tokio::test]
async fn feedback_on_several_rows_is_compared_row_by_row() {
    let (_folder, predictor, gateway) = setup().await;
    predictor.change_revision("00000001", |model| model["classes"] = json!(["no", "yés"]));
    let rows = r#"{"instances":[[1,2,0,0],[-1,-2,0,0],[1,1,0,0]]}"#;
    let id = gateway.post("/api/predict", rows).await.header("canopy-prediction-id").to_owned();
    let problem = gateway.send_feedback(&id, r#"{"actual":"no"}"#).await.problem(422, "invalid_feedback");
    assert_eq!(problem.errors["actual"], ["must be a list of 3 classes, one per row of the prediction"]);
    let problem =
        gateway.send_feedback(&id, r#"{"actual":["no","maybe",7]}"#).await.problem(422, "invalid_feedback");
    assert_eq!(problem.errors.keys().collect::<Vec<_>>(), ["actual.1", "actual.2"]);
    let told = gateway.send_feedback(&id, r#"{"actual":["yés","yés",1]}"#).await;
    assert_eq!((told.status, told.json()), (202, json!({"id": id, "rows": 3, "correct": 2})));
    assert_eq!((gateway.metric(&series("correct")), gateway.metric(&series("wrong"))), (2, 1));
    let shown = gateway.get(&format!("/api/predictions/{id}")).await.json();
    assert_eq!(shown["predictions"][0], json!({"class": 1, "label": "yés", "proba": 0.87}));
    assert_eq!(shown["feedback"]["actual"], json!([1, 1, 1]));
    assert_eq!(shown["feedback"]["label"], json!(["yés", "yés", "yés"]));
}

#[tokio::test]
async fn invalid_feedback_is_reported() {
    let (_folder, _predictor, gateway) = setup().await;
    let id = gateway.predict_id().await;
    gateway.send_feedback(&id, r#"{"actual":"#).await.problem(400, "malformed_json");
    let problem = gateway.send_feedback(&id, r#"{"actual":2}"#).await.problem(422, "invalid_feedback");
    assert_eq!(problem.errors["actual"], ["must be the index of a class of the model, from 0 to 1"]);
    for nobody in ["01a20892-3333-74ef-9fdb-cb89d99340c3", "1", "x%2F", &"7".repeat(5000)] {
        let problem =
            gateway.send_feedback(nobody, r#"{"actual":1}"#).await.problem(404, "unknown_prediction");
        assert!(problem.detail.len() < 200, "{}", problem.detail);
        gateway.get(&format!("/api/predictions/{nobody}")).await.problem(404, "unknown_prediction");
    }
    // No rejected feedback was stored.
    assert_eq!(gateway.send_feedback(&id, r#"{"actual":1}"#).await.status, 202);
}

#[tokio::test]
async fn without_a_database_feedback_and_lists_are_unavailable() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    let id = gateway.predict_id().await;
    gateway.send_feedback(&id, r#"{"actual":1}"#).await.problem(503, "store_not_configured");
    for path in [format!("/api/predictions/{id}"), "/api/predictions".to_owned()] {
        let problem = gateway.get(&path).await.problem(503, "store_not_configured");
        assert_eq!(problem.detail, "predictions are not recorded: CANOPY_DATABASE_URL is not set");
    }
}

#[tokio::test]
async fn a_prediction_is_shown_without_its_features_by_default() {
    let (_folder, predictor, gateway) = setup().await;
    predictor.change_revision("00000001", |model| model["classes"] = json!(["no", "yes"]));
    let id = gateway.predict_id().await;
    let shown = gateway.get(&format!("/api/predictions/{id}")).await.json();
    let at = shown["answered_at"].as_str().unwrap().to_owned();
    assert_eq!(
        shown,
        json!({
            "id": id, "model": "demo", "namespace": "default", "version": "1.0", "revision": "00000001",
            "answered_at": at, "prediction": {"class": 1, "label": "yes", "proba": 0.87},
        })
    );
    assert!(at.starts_with("20") && at.ends_with('Z') && at.contains('T'), "{at}");
}

#[tokio::test]
async fn predictions_are_listed_in_pages_latest_first() {
    let (_folder, _predictor, gateway) = setup().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(gateway.predict_id().await);
    }
    ids.reverse();
    // When the latest is written, all are.
    gateway.get(&format!("/api/predictions/{}", ids[0])).await.json();
    let page = async |query: &str| {
        let page = gateway.get(&format!("/api/predictions{query}")).await.json();
        let ids =
            page["predictions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(page("").await, (ids.clone(), Value::Null));
    assert_eq!(page("?limit=2").await, (ids[..2].into(), json!(ids[1])));
    assert_eq!(page(&format!("?limit=2&after={}", ids[1])).await, (ids[2..4].into(), json!(ids[3])));
    assert_eq!(page(&format!("?limit=2&model=demo&after={}", ids[3])).await, (ids[4..].into(), Value::Null));
    assert_eq!(page("?model=demo.default").await.0, ids);
    assert_eq!(page("?model=iris").await, (vec![], Value::Null));
}

#[tokio::test]
async fn invalid_list_parameters_are_reported_by_name() {
    let (_folder, _predictor, gateway) = setup().await;
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("after=1", "after"),
        ("limit=1&limit=2", "limit"),
        ("LIMIT=1", "LIMIT"),
        ("model=demo&foo=1", "foo"),
    ] {
        let problem = gateway.get(&format!("/api/predictions?{query}")).await.problem(422, "invalid_query");
        assert_eq!(problem.errors.keys().collect::<Vec<_>>(), [parameter], "{query}");
    }
    for model in ["demo.shop", "DEMO", ""] {
        gateway.get(&format!("/api/predictions?model={model}")).await.problem(404, "unknown_model");
    }
}

#[tokio::test]
async fn predictions_of_other_namespaces_are_unknown() {
    let (folder, predictor, gateway) = setup().await;
    let id = gateway.predict_id().await;
    gateway.get(&format!("/api/predictions/{id}")).await.json();
    let elsewhere = Settings {
        namespaces: Some("shop".to_owned()),
        ..recording(&predictor, &folder.path().join("canopy.db"))
    };
    let elsewhere = Gateway::new(&elsewhere).await;
    elsewhere.get(&format!("/api/predictions/{id}")).await.problem(404, "unknown_prediction");
    elsewhere.send_feedback(&id, r#"{"actual":1}"#).await.problem(404, "unknown_prediction");
    assert_eq!(elsewhere.get("/api/predictions").await.json()["predictions"], json!([]));
    let every = Settings {
        namespaces: Some("*".to_owned()),
        ..recording(&predictor, &folder.path().join("canopy.db"))
    };
    assert_eq!(Gateway::new(&every).await.get("/api/predictions").await.json()["predictions"][0]["id"], id);
}

#[tokio::test]
async fn if_classes_are_numbers_feedback_is_matched_by_name() {
    let (_folder, predictor, gateway) = setup().await;
    predictor.change_revision("00000001", |model| model["classes"] = json!(["3", "4", "5", "6", "7", "8"]));
    let id = gateway.predict_id().await;
    let problem = gateway.send_feedback(&id, r#"{"actual":1}"#).await.problem(422, "invalid_feedback");
    assert_eq!(problem.errors["actual"], ["must be a class of the model: one of 3, 4, 5, 6, 7, 8"]);
    // The predicted class has index 1 and the name 4.
    assert_eq!(gateway.send_feedback(&id, r#"{"actual":4}"#).await.json()["correct"], 1);
    let shown = gateway.get(&format!("/api/predictions/{id}")).await.json();
    assert_eq!(shown["prediction"], json!({"class": 1, "label": "4", "proba": 0.87}));
    assert_eq!((&shown["feedback"]["actual"], &shown["feedback"]["label"]), (&json!(1), &json!("4")));
}

#[tokio::test]
async fn content_types_that_need_no_preflight_are_rejected() {
    let (_folder, _predictor, gateway) = setup().await;
    let id = gateway.predict_id().await;
    for content_type in [
        None,
        Some(""),
        Some("text/plain"),
        Some("text/plain;charset=UTF-8"),
        Some("text/plain; application/json"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/jsonx"),
        Some("application/json, text/plain"),
        Some("text/json"),
    ] {
        let told = gateway.send_feedback_as(content_type, &id, r#"{"actual":1}"#).await;
        let problem = told.problem(415, "unsupported_media_type");
        let found = content_type.map_or("got none".to_owned(), |found| format!("got {found}"));
        assert_eq!(problem.detail, format!("the content type must be application/json, {found}"));
    }
    let twice = http::Request::post(format!("/api/predictions/{id}/feedback"))
        .header("content-type", "application/json")
        .header("content-type", "text/plain");
    gateway.send(twice.body(r#"{"actual":1}"#.into()).unwrap()).await.problem(415, "unsupported_media_type");
    assert_eq!(gateway.metric(&series("correct")), 0);
    let told =
        gateway.send_feedback_as(Some("Application/JSON; charset=utf-8"), &id, r#"{"actual":1}"#).await;
    assert_eq!(told.status, 202, "{told:?}");
    // Predictions change nothing, so their content type is not checked.
    let plain = http::Request::post("/api/predict").header("content-type", "text/plain");
    gateway.send(plain.body(crate::gateway::ROW.into()).unwrap()).await.class();
    let other = gateway.predict_id().await;
    let told = gateway.send_feedback_as(Some("application/problem+json"), &other, r#"{"actual":1}"#).await;
    assert_eq!(told.status, 202, "{told:?}");
}

#[tokio::test]
async fn recorded_data_is_shown_only_if_enabled() {
    assert!(!Settings::default().list_predictions);
    let folder = tempfile::tempdir().unwrap();
    let predictor = FakePredictor::of("demo").await;
    let mut settings = recording(&predictor, &folder.path().join("canopy.db"));
    settings.list_predictions = false;
    let gateway = Gateway::new(&settings).await;
    let id = gateway.predict_id().await;
    let listed = ["/api/predictions", "/api/predictions?model=demo", "/api/users", "/api/users/1"];
    let one = format!("/api/predictions/{id}");
    for path in listed.into_iter().chain([one.as_str(), "/api/predictions/1"]) {
        let problem = gateway.get(path).await.problem(403, "listing_disabled");
        assert!(problem.detail.contains("CANOPY_LIST_PREDICTIONS=true"), "{path}: {}", problem.detail);
    }
    // Feedback does not need listing.
    assert_eq!(gateway.send_feedback(&id, r#"{"actual":1}"#).await.status, 202);
    // The fixed list has no personal data.
    settings.database_url = None;
    assert_eq!(Gateway::new(&settings).await.get("/api/users").await.status, 200);
}

#[tokio::test]
async fn lists_reject_unknown_parameters() {
    let (_folder, _predictor, gateway) = setup().await;
    for path in ["/api/models", "/api/users"] {
        let problem = gateway.get(&format!("{path}?limit=1")).await.problem(422, "invalid_query");
        assert_eq!(problem.errors["limit"], ["is unknown; this path takes no parameters"], "{path}");
    }
}
