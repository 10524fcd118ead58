//! Predictors that misbehave: the gateway reports them in time, and recovers when they do.

use std::time::{Duration, Instant};

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{Gateway, settings};

fn answer(status: u16, body: &str) -> Behavior {
    Behavior::Answer(status, body.to_owned())
}

fn bytes(text: &str) -> Behavior {
    Behavior::Bytes(text.as_bytes().to_vec())
}

/// Checks the error for a predictor with this behavior, and that the gateway recovers at once.
async fn check(gateway: &Gateway, predictor: &FakePredictor, behavior: Behavior, code: &str) {
    predictor.set_predict_behavior(behavior.clone());
    let problem = gateway.predict().await.problem(503, code);
    assert_eq!(problem.error, "AI service unavailable", "{behavior:?}");
    assert!(problem.detail.contains("model demo.default"), "{behavior:?}: {}", problem.detail);
    predictor.set_predict_behavior(Behavior::Normal);
    assert_eq!(gateway.predict().await.class(), 1, "after {behavior:?}");
}

#[tokio::test]
async fn a_predictor_that_resets_the_connection_is_unavailable() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    check(&gateway, &predictor, Behavior::Reset, "predictor_unavailable").await;
}

#[tokio::test]
async fn invalid_responses_are_failures_of_the_predictor() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    let long = format!(r#"{{"prediction":1,"confidence":0.5,"more":"{}"}}"#, "x".repeat(100_000));
    for behavior in [
        // No HTTP, or a part of it, or nothing.
        Behavior::Close,
        bytes("HTTP/1.1 200"),
        bytes("HTTP/1.1 200 OK\r\ncontent-"),
        bytes("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        bytes("\u{0}\u{1}\u{2}\u{3}\r\n\r\n"),
        bytes("HTTP/1.1 200 OK\r\ncanopy-revision: 6f3a9c1e\r\ncontent-length: 100\r\n\r\n{\"prediction\":1"),
        bytes("HTTP/1.1 200 OK\r\ncanopy-revision: 6f3a9c1e\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        bytes("HTTP/1.1 200 OK\r\ncanopy-revision: 6f3a9c1e\r\ncontent-length: 99999999999\r\n\r\n"),
        bytes("HTTP/1.1 200 OK\r\ncontent-length: 34\r\n\r\n{\"prediction\":1,\"confidence\":0.875}"),
        // No valid prediction.
        answer(200, ""),
        answer(200, "<html>"),
        answer(200, r#"{"prediction":1"#),
        answer(200, r#"{"prediction":"1","confidence":0.5}"#),
        answer(200, r#"{"prediction":1}"#),
        answer(200, r#"{"prediction":2,"confidence":0.5}"#),
        answer(200, r#"{"prediction":-1,"confidence":0.5}"#),
        answer(200, r#"{"prediction":1,"confidence":1e999}"#),
        answer(200, r#"{"prediction":1,"confidence":7}"#),
        answer(200, r#"{"predictions":[{"prediction":1,"confidence":0.5}]}"#),
        answer(200, &long),
        answer(200, &"[".repeat(10_000)),
        // Another status.
        answer(204, ""),
        answer(302, ""),
        answer(404, r#"{"detail":"Not Found"}"#),
        answer(500, r#"{"detail":"Model error"}"#),
        answer(502, "Bad Gateway"),
    ] {
        check(&gateway, &predictor, behavior, "predictor_failed").await;
    }
}

#[tokio::test]
async fn a_predictor_that_reports_not_ready_is_not_ready() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    check(&gateway, &predictor, answer(503, r#"{"detail":"not proven yet"}"#), "not_ready").await;
}

#[tokio::test]
async fn a_response_with_the_wrong_number_of_rows_is_invalid() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    predictor.set_predict_behavior(answer(200, r#"{"predictions":[{"prediction":1,"confidence":0.5}]}"#));
    let two = r#"{"instances":[[1,2,3,4],[1,2,3,4]]}"#;
    gateway.post("/api/predict", two).await.problem(503, "predictor_failed");
    predictor.set_predict_behavior(Behavior::Normal);
    assert_eq!(gateway.post("/api/predict", two).await.status, 200);
}

#[tokio::test]
async fn a_hung_predictor_ends_at_the_deadline_and_a_slow_one_does_not() {
    let predictor = FakePredictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    settings.upstream_timeout = Duration::from_millis(400);
    let gateway = Gateway::new(&settings).await;
    predictor.set_predict_behavior(Behavior::Slow(Duration::from_millis(50)));
    gateway.predict().await.class();
    predictor.set_predict_behavior(Behavior::Hang);
    let started = Instant::now();
    let problem = gateway.predict().await.problem(504, "deadline_exceeded");
    let took = started.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(2)).contains(&took), "{took:?}");
    assert_eq!(problem.detail, "the predictor of model demo.default did not respond within 400ms");
    predictor.set_predict_behavior(Behavior::Normal);
    gateway.predict().await.class();
}

#[tokio::test]
async fn a_restarted_predictor_is_used_at_once() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.class();
    let stopped = predictor.stop().await;
    for _ in 0..3 {
        gateway.predict().await.problem(503, "predictor_unavailable");
    }
    let predictor = stopped.restart().await;
    assert_eq!(gateway.predict().await.class(), 1);
    assert_eq!(predictor.descriptions(), 1, "the description outlives its predictor");
}

#[tokio::test]
async fn a_predictor_is_described_by_the_first_request_that_reaches_it() {
    let predictor = FakePredictor::of("demo").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    let stopped = predictor.stop().await;
    gateway.predict().await.problem(503, "predictor_unavailable");
    gateway.get("/api/models/demo").await.problem(503, "predictor_unavailable");
    let predictor = stopped.restart().await;
    for (behavior, code) in [
        (answer(503, r#"{"detail":"loading"}"#), "not_ready"),
        (answer(200, "{}"), "predictor_failed"),
        (answer(404, ""), "predictor_failed"),
        (Behavior::Reset, "predictor_unavailable"),
    ] {
        predictor.set_describe_behavior(behavior);
        gateway.predict().await.problem(503, code);
    }
    predictor.set_describe_behavior(Behavior::Normal);
    assert_eq!(gateway.predict().await.class(), 1);
}

#[tokio::test]
async fn a_predictor_of_another_model_gets_no_predictions() {
    let predictor = FakePredictor::of("iris").await;
    let gateway = Gateway::with_predictor(&predictor).await;
    gateway.predict().await.problem(503, "predictor_failed");
    assert_eq!(predictor.predictions(), 0);
}

#[tokio::test]
async fn a_hung_predictor_does_not_delay_other_models() {
    let (demo, iris) = (FakePredictor::of("demo").await, FakePredictor::of("iris").await);
    iris.set_describe_behavior(Behavior::Hang);
    let mut settings = settings(&[("demo", &demo), ("iris", &iris)]);
    settings.upstream_timeout = Duration::from_millis(400);
    let gateway = Gateway::new(&settings).await;
    let iris = async { gateway.post("/api/models/iris/predict", crate::gateway::ROW).await };
    let demo = async {
        let started = Instant::now();
        (gateway.predict().await.class(), started.elapsed())
    };
    let (iris, (class, took)) = tokio::join!(iris, demo);
    iris.problem(504, "deadline_exceeded");
    assert_eq!(class, 1);
    assert!(took < Duration::from_millis(400), "{took:?}");
    let listed = gateway.get("/api/models").await.json();
    assert_eq!(listed["unavailable"], serde_json::json!(["iris.default"]));
    assert_eq!(listed["models"][0]["model"], "demo");
}
