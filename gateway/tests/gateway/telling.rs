//! What the gateway tells of its work: metrics, log lines and trace headers.

use std::io::Write;
use std::sync::{Arc, Mutex};

use http::Request;
use serde_json::{Value, json};

use crate::gateway::{Gateway, ROW};
use crate::predictor::{Manner, Predictor};

#[tokio::test]
async fn requests_are_counted_by_model_version_code_and_reason() {
    let predictor = Predictor::of("demo").await;
    let gateway = Gateway::before(&predictor).await;
    predictor.describes(Manner::Answer(503, "{}".into()));
    gateway.predict().await.problem(503, "not_ready");
    predictor.describes(Manner::Honest);
    gateway.predict().await.class();
    gateway.post("/api/predict", "{}").await.problem(422, "invalid_features");
    predictor.predicts(Manner::Answer(500, "{}".into()));
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
async fn ten_thousand_unknown_models_and_paths_make_no_series() {
    let predictor = Predictor::of("demo").await;
    let gateway = Gateway::before(&predictor).await;
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
async fn the_callers_trace_goes_on_to_the_predictor() {
    let predictor = Predictor::of("demo").await;
    let gateway = Gateway::before(&predictor).await;
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

/// Log lines, as a collector reads them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn read(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn each_call_and_each_failure_has_one_line_with_the_fields_to_search_by() {
    let predictor = Predictor::of("demo").await;
    let gateway = Gateway::before(&predictor).await;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let endpoint = format!("http://{}", predictor.address);
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let ask = |body: &'static str| {
        let sent = format!("00-{trace_id}-b7ad6b7169203331-00");
        gateway.send(Request::post("/api/predict").header("traceparent", sent).body(body.into()).unwrap())
    };
    let check = |line: &Value, expected: Value| {
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&line[field], value, "{field} of {line}");
        }
        assert_eq!(line["trace_id"], trace_id, "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
    };
    let call = json!({"level": "INFO", "model": "demo.default", "version": "1.0", "endpoint": endpoint});

    ask(r#"{"features":[1.23456,2,0,0]}"#).await.class();
    let [learned, predicted] = &lines.read()[..] else { panic!("not two lines") };
    check(learned, call.clone());
    check(predicted, call);
    let answer = json!({"features_count": 4, "prediction": 1, "confidence": 0.87, "code": "ok", "rows": 1});
    check(predicted, answer);
    assert!(!predicted.to_string().contains("1.23456"), "feature values in {predicted}");

    ask(r#"{"features":[0,0,0,12.34567]}"#).await.problem(422, "invalid_features");
    let [refused] = &lines.read()[..] else { panic!("not one line") };
    check(
        refused,
        json!({"level": "INFO", "code": "invalid_features", "message": "refused: faults at features.3"}),
    );
    assert!(!refused.to_string().contains("12.34567"), "feature values in {refused}");

    predictor.predicts(Manner::Answer(500, r#"{"detail":"Model error"}"#.into()));
    ask(ROW).await.problem(503, "predictor_failed");
    let [failed] = &lines.read()[..] else { panic!("not one line") };
    let cause = format!("{endpoint}/predict: it answered 500 Internal Server Error: Model error");
    check(failed, json!({"level": "WARN", "code": "predictor_failed", "endpoint": endpoint, "cause": cause}));
}
