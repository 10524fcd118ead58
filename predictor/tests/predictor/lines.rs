//! The log lines of predictions.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use canopy_contract::rows::Rows;
use canopy_runtime::telemetry::log_limit::LINES_PER_SECOND;
use http::Request;
use serde_json::Value;

use crate::harness::{Port, sum};

/// Lines that a subscriber wrote.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Collects the lines of this thread, in the format of the processes, until the guard is dropped.
    fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn all(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn line_of(port: &Port, body: &str) -> Value {
    let (lines, _collecting) = Lines::collect();
    let request =
        Request::post("/predict").header("traceparent", TRACEPARENT).body(Body::from(body.to_owned()));
    port.send(request.unwrap()).await;
    let mut all = lines.all();
    let mut line = all.pop().unwrap();
    assert!(all.is_empty(), "more than one line: {all:?}");
    // The two that differ each time.
    let fields = line.as_object_mut().unwrap();
    assert!(fields.remove("timestamp").unwrap().is_string());
    assert!(fields.remove("duration_ms").unwrap().as_f64().unwrap() > 0.0);
    line
}

#[tokio::test]
async fn each_prediction_has_one_line_with_the_fields_to_search_by() {
    let port = Port::serving(sum);
    assert_eq!(
        line_of(&port, r#"{"features":[20,5.5]}"#).await,
        serde_json::json!({
            "level": "INFO", "message": "predicted", "target": "canopy_predictor::serving::routes::predict",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "model": "demo", "version": "1.0",
            "endpoint": "/predict", "features_count": 2, "rows": 1, "prediction": 1, "confidence": 0.255,
            "code": "ok",
        })
    );
    assert_eq!(
        line_of(&port, r#"{"instances":[[20,5.5],[1,1]]}"#).await,
        serde_json::json!({
            "level": "INFO", "message": "predicted", "target": "canopy_predictor::serving::routes::predict",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "model": "demo", "version": "1.0",
            "endpoint": "/predict", "features_count": 2, "rows": 2, "code": "ok",
        })
    );
}

#[tokio::test]
async fn a_refused_request_has_a_line_without_its_values() {
    let line = line_of(&Port::serving(sum), r#"{"features":[1234.5,7]}"#).await;
    assert_eq!((&line["message"], &line["code"]), (&"not predicted".into(), &"invalid_features".into()));
    assert!(!line.to_string().contains("1234.5"), "{line}");
}

#[tokio::test]
async fn a_failing_model_has_its_reason_in_a_separate_line() {
    let port = Port::serving(|_: &Rows| Err("no such leaf".into()));
    let (lines, _collecting) = Lines::collect();
    port.post(r#"{"features":[1,2]}"#).await;
    let all = lines.all();
    let [error, request] = &all[..] else { panic!("two lines were expected: {all:?}") };
    assert_eq!((&error["level"], &error["error"]), (&"ERROR".into(), &"no such leaf".into()));
    assert_eq!(error["trace_id"], request["trace_id"]);
    assert_eq!(request["code"], "model_failed");
}

#[tokio::test]
async fn lines_keep_within_their_limit_and_count_what_they_left_out() {
    let port = Port::serving(sum);
    let (lines, _collecting) = Lines::collect();
    let mut asked = 0;
    // A second has so many lines; once one says that others were left out, the budget has been seen to work.
    while !lines.all().iter().any(|line| line["left_out"].is_u64()) {
        for _ in 0..LINES_PER_SECOND {
            port.post(r#"{"features":[1,2]}"#).await;
            asked += 1;
        }
    }
    let all = lines.all();
    let left_out: usize = all.iter().filter_map(|line| line["left_out"].as_u64()).map(|n| n as usize).sum();
    assert!(left_out > 0 && all.len() + left_out <= asked, "{} and {left_out} of {asked}", all.len());
}
