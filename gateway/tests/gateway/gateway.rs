//! A gateway in a test. Requests go directly into its router, without a socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use canopy_contract::problem::Problem;
use canopy_gateway::app::App;
use canopy_gateway::routes;
use canopy_gateway::settings::{Predictor as At, Predictors, Settings, Tuning};
use canopy_runtime::metrics::Registry;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::fake_predictor::FakePredictor;

/// The default body of a prediction request.
pub(crate) const ROW: &str = r#"{"features":[1,2,-0.5,0.3]}"#;

pub(crate) struct Gateway {
    router: Router,
    registry: Registry,
    app: Arc<App>,
}

/// The settings of a gateway with these static predictors.
pub(crate) fn settings(predictors: &[(&str, &FakePredictor)]) -> Settings {
    let at = |(model, predictor): &(&str, &FakePredictor)| At {
        model: (*model).to_owned(),
        address: predictor.address.into(),
    };
    Settings {
        predictors: Predictors(predictors.iter().map(at).collect()),
        // Longer than any request takes, short enough for a failing test.
        upstream_timeout: Duration::from_secs(20),
        list_predictions: true,
        // Lists are not cached, so that a test sees its changes.
        tuning: Tuning { listing_ttl: Duration::ZERO, ..Tuning::default() },
        ..Settings::default()
    }
}

impl Gateway {
    /// A gateway with `settings`.
    pub(crate) async fn new(settings: &Settings) -> Self {
        let registry = canopy_runtime::metrics::registry("gateway").unwrap();
        let app: Arc<App> = App::open(settings, &registry).await.unwrap();
        Self { router: routes::router(app.clone()), registry, app }
    }

    /// A gateway with `predictor` for the default model.
    pub(crate) async fn with_predictor(predictor: &FakePredictor) -> Self {
        Self::new(&settings(&[("demo", predictor)])).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> TestResponse {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        TestResponse { status: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> TestResponse {
        self.send(Request::post(path).body(body.into()).unwrap()).await
    }

    /// Predicts [`ROW`] and returns the id of the prediction.
    pub(crate) async fn predict_id(&self) -> String {
        let answered = self.predict().await;
        assert_eq!(answered.status, 200, "{answered:?}");
        answered.header("canopy-prediction-id").to_owned()
    }

    /// Sends feedback on the prediction `id`.
    pub(crate) async fn send_feedback(&self, id: &str, truth: &str) -> TestResponse {
        self.send_feedback_as(Some("application/json"), id, truth).await
    }

    /// Sends feedback with this content type, or none.
    pub(crate) async fn send_feedback_as(
        &self,
        content_type: Option<&str>,
        id: &str,
        truth: &str,
    ) -> TestResponse {
        let mut request = Request::post(format!("/api/predictions/{id}/feedback"));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        self.send(request.body(truth.to_owned().into()).unwrap()).await
    }

    /// Ends background work within `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        self.app.close(limit).await;
    }

    /// The value of a series, 0 if it does not exist.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Predicts this many rows with the default model.
    pub(crate) async fn predict_rows(&self, rows: usize) -> TestResponse {
        let rows = vec!["[1,2,-0.5,0.3]"; rows].join(",");
        self.post("/api/predict", format!(r#"{{"instances":[{rows}]}}"#)).await
    }

    /// Predicts [`ROW`] with the default model.
    pub(crate) async fn predict(&self) -> TestResponse {
        self.post("/api/predict", ROW).await
    }

    pub(crate) fn metrics(&self) -> String {
        canopy_runtime::metrics::encode(&self.registry).unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl TestResponse {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The problem in this response, after checks that all its parts agree.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Problem {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{self:?}");
        assert_eq!(problem.kind, format!("urn:canopy:problem:{code}"));
        assert_eq!(self.header("retry-after"), if status == 503 { "1" } else { "" });
        problem
    }

    /// The predicted class.
    #[track_caller]
    pub(crate) fn class(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["prediction"]["class"].clone()
    }
}
