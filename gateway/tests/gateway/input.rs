//! Invalid bodies: the error names what is wrong, and no predictor gets them.

use http::Request;
use http::header::ACCEPT_LANGUAGE;
use serde_json::json;

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW, TestResponse, settings};

async fn ask(body: impl Into<axum::body::Body>) -> TestResponse {
    let predictor = FakePredictor::of("demo").await;
    let answered = Gateway::with_predictor(&predictor).await.post("/api/predict", body).await;
    assert_eq!(predictor.predictions(), 0);
    answered
}

#[tokio::test]
async fn invalid_json_is_reported_with_its_position() {
    for body in ["{", r#"{"features":[1,2"#, "features=1", r#"{"features":[NaN]}"#, "nul"] {
        let problem = ask(body).await.problem(400, "malformed_json");
        assert!(problem.detail.contains("line 1 column"), "{body}: {}", problem.detail);
    }
    ask(b"{\"features\":[\xff]}".to_vec()).await.problem(400, "malformed_json");
}

#[tokio::test]
async fn each_invalid_field_is_reported() {
    let length = "must have 4 values, one per feature of the model, but has";
    for (body, errors) in [
        ("{}", json!({"features": ["is required"]})),
        ("[1,2,3,4]", json!({"body": ["must be an object with features or instances"]})),
        (
            r#"{"features":"1,2"}"#,
            json!({"features": ["must be a list of values, or an object of values by feature"]}),
        ),
        (r#"{"features":[1,2,3]}"#, json!({"features": [format!("{length} 3")]})),
        (r#"{"features":[]}"#, json!({"features": [format!("{length} 0")]})),
        (
            r#"{"features":[1,"2",null,4]}"#,
            json!({
                "features.1": ["must be a number"],
                "features.2": ["must be a number: the model takes no missing values here"],
            }),
        ),
        (
            r#"{"features":[1,true,2,1e999]}"#,
            json!({"features.1": ["must be a number"], "features.3": ["must be a finite number"]}),
        ),
        (
            r#"{"features":[0,0,10.5,-11]}"#,
            json!({
                "features.2": ["c must be between -10 and 10, but is 10.5"],
                "features.3": ["d must be between -10 and 10, but is -11"],
            }),
        ),
        (
            r#"{"instances":[[1,2,3,4],[1,2,3,99]]}"#,
            json!({"instances.1.3": ["d must be between -10 and 10, but is 99"]}),
        ),
        (
            r#"{"features":[1,2,3,4],"names":["a"],"model":"iris"}"#,
            json!({
                "names": ["is unknown; the body takes features or instances, and probabilities"],
                "model": ["is unknown; the body takes features or instances, and probabilities"],
            }),
        ),
        (r#"{"instances":[]}"#, json!({"instances": ["must have at least one row"]})),
        (
            r#"{"features":[1,2,3,4],"instances":[]}"#,
            json!({"instances": ["must not be given together with features"]}),
        ),
    ] {
        let answered = ask(body).await;
        answered.problem(422, "invalid_features");
        assert_eq!(answered.json()["errors"], errors, "{body}");
    }
}

#[tokio::test]
async fn each_invalid_feature_by_name_is_reported() {
    for (body, errors) in [
        (
            r#"{"features":{"a":1,"b":2,"d":3,"e":1}}"#,
            json!({
                "features.c": ["is required"],
                "features.e": ["is no feature of the model, which has a, b, c, d"],
            }),
        ),
        (
            r#"{"instances":[{"a":1,"b":2,"c":11,"d":3,"a":1}]}"#,
            json!({
                "instances.0.a": ["is given more than once"],
                "instances.0.c": ["c must be between -10 and 10, but is 11"],
            }),
        ),
        (
            r#"{"features":[1,2,3,4],"probabilities":"yes"}"#,
            json!({"probabilities": ["must be true or false"]}),
        ),
    ] {
        let answered = ask(body).await;
        answered.problem(422, "invalid_features");
        assert_eq!(answered.json()["errors"], errors, "{body}");
    }
}

#[tokio::test]
async fn deeply_nested_and_very_faulty_bodies_get_short_responses() {
    let deep = |opened: &str, closed: &str| {
        format!(r#"{{"features":{}{}}}"#, opened.repeat(100_000), closed.repeat(100_000))
    };
    ask(deep("[", "]")).await.problem(422, "invalid_features");
    ask(deep("[", "")).await.problem(400, "malformed_json");
    ask(deep(r#"{"a":"#, "")).await.problem(400, "malformed_json");
    let many = ask(format!(r#"{{"features":[{}0]}}"#, "null,".repeat(300_000))).await;
    many.problem(422, "invalid_features");
    assert!(many.body.len() < 4096, "{} bytes", many.body.len());
}

#[tokio::test]
async fn the_size_limit_of_a_body_is_inclusive() {
    let predictor = FakePredictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    settings.max_body_bytes = 64;
    let gateway = Gateway::new(&settings).await;
    let padded = |length: usize| format!("{ROW}{}", " ".repeat(length - ROW.len()));
    gateway.post("/api/predict", padded(64)).await.class();
    let problem = gateway.post("/api/predict", padded(65)).await.problem(413, "body_too_large");
    assert!(problem.detail.contains("at most 64 bytes"), "{}", problem.detail);
}

#[tokio::test]
async fn a_rejection_by_the_predictor_is_a_client_error() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.set_predict_behavior(Behavior::Answer(400, r#"{"detail":"Invalid features: too odd"}"#.into()));
    let answered = gateway.predict().await;
    answered.problem(422, "invalid_features");
    assert_eq!(answered.json()["errors"], json!({"features": ["Invalid features: too odd"]}));
    predictor.set_predict_behavior(Behavior::Answer(
        422,
        r#"{"detail":[{"loc":["body"],"msg":"odd","type":"x"}]}"#.into(),
    ));
    let answered = gateway.post("/api/predict", r#"{"instances":[[1,2,3,4]]}"#).await;
    answered.problem(422, "invalid_features");
    assert_eq!(answered.json()["errors"], json!({"instances": ["odd"]}));
    predictor.set_predict_behavior(Behavior::Answer(413, String::new()));
    gateway.predict().await.problem(413, "body_too_large");
}

#[tokio::test]
async fn unavailability_is_reported_in_the_language_of_the_client() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.stop().await;
    for (language, error) in [
        ("fr-FR,fr;q=0.9,en;q=0.8", "Service IA indisponible"),
        ("en;q=0.8,fr;q=0.9", "Service IA indisponible"),
        ("fr;q=0.8,en", "AI service unavailable"),
        ("de", "AI service unavailable"),
    ] {
        let request =
            Request::post("/api/predict").header(ACCEPT_LANGUAGE, language).body(ROW.into()).unwrap();
        let answered = gateway.send(request).await;
        assert_eq!(answered.problem(503, "predictor_unavailable").error, error, "{language}");
        assert_eq!(answered.header("vary"), "accept-language");
    }
    assert_eq!(gateway.predict().await.problem(503, "predictor_unavailable").error, "AI service unavailable");
}
