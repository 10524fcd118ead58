//! Metrics and trace headers.

use http::Request;

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, ROW};

#[tokio::test]
async fn requests_are_counted_by_model_version_code_and_reason() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.set_describe_behavior(Behavior::Answer(503, "{}".into()));
    gateway.predict().await.problem(503, "not_ready");
    predictor.set_describe_behavior(Behavior::Normal);
    gateway.predict().await.class();
    gateway.post("/api/predict", "{}").await.problem(422, "invalid_features");
    predictor.set_predict_behavior(Behavior::Answer(500, "{}".into()));
    gateway.predict().await.problem(503, "predictor_failed");
    gateway.get("/api/test").await.json();
    gateway.get("/nothing").await.problem(404, "unknown_path");
    let model = r#"model="demo",model_namespace="default""#;
    for line in [
        format!(r#"canopy_gateway_requests_total{{code="503",{model},reason="not_ready",version=""}} 1"#),
        format!(r#"canopy_gateway_requests_total{{code="200",{model},reason="ok",version="1.0"}} 1"#),
        format!(r#"canopy_gateway_requests_total{{code="422",{model},reason="invalid_features",version="1.0"}} 1"#),
        format!(r#"canopy_gateway_requests_total{{code="503",{model},reason="predictor_failed",version="1.0"}} 1"#),
        r#"canopy_gateway_requests_total{code="200",model="",model_namespace="",reason="ok",version=""} 1"#.into(),
        r#"canopy_gateway_requests_total{code="404",model="",model_namespace="",reason="unknown_path",version=""} 1"#.into(),
        format!(r#"canopy_gateway_request_duration_seconds_count{{{model},result="ok",version="1.0"}} 1"#),
        format!(r#"canopy_gateway_request_duration_seconds_count{{{model},result="error",version="1.0"}} 2"#),
        format!(r#"canopy_gateway_upstream_requests_total{{{model},outcome="ok",version="1.0"}} 1"#),
        format!(r#"canopy_gateway_upstream_requests_total{{{model},outcome="predictor_failed",version="1.0"}} 1"#),
        format!(r#"canopy_gateway_upstream_duration_seconds_count{{{model},version="1.0"}} 2"#),
        "canopy_gateway_requests_in_flight 0".into(),
    ] {
        assert!(gateway.metrics().contains(&format!("{line}\n")), "{line} is missing in {}", gateway.metrics());
    }
}

#[tokio::test]
async fn unknown_models_and_paths_create_no_series() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.get("/api/models/none").await.problem(404, "unknown_model");
    gateway.get("/none").await.problem(404, "unknown_path");
    let before = gateway.metrics().lines().count();
    for index in 0..10_000 {
        gateway.post(&format!("/api/models/model{index}/predict"), ROW).await;
        gateway.get(&format!("/path{index}")).await;
    }
    assert_eq!(gateway.metrics().lines().count(), before);
    assert!(!gateway.metrics().contains("model7"), "{}", gateway.metrics());
}

#[tokio::test]
async fn the_trace_of_the_client_is_passed_to_the_predictor() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::post("/api/predict").header("traceparent", sent).header("tracestate", "a=1");
    gateway.send(request.body(ROW.into()).unwrap()).await.class();
    let (head, _) = predictor.script.last.lock().unwrap().clone();
    assert!(
        head.contains(&format!("traceparent: {sent}\r\n")) && head.contains("tracestate: a=1\r\n"),
        "{head}"
    );

    gateway.predict().await.class();
    let (head, _) = predictor.script.last.lock().unwrap().clone();
    let minted = head.lines().find_map(|line| line.strip_prefix("traceparent: 00-")).unwrap();
    assert!(minted.ends_with("-00") && !minted.contains("0af76519"), "{head}");
}
