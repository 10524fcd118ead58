//! The admin port: liveness, readiness and metrics, apart from the port that serves.
//!
//! Comes in: the process's readiness and its registry. Goes out: three answers. Never: a call to anything;
//! a probe must not fail because something else is slow.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::accept::prefers_openmetrics;
use crate::metrics::{self, Registry};
use crate::readiness::Readiness;
use crate::serve::{ServeOptions, serve};
use crate::shutdown::Shutdown;
use crate::workers::Workers;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the admin port in the background for as long as the process lives: probes and scrapes go on while
/// requests drain, so nobody orders it to stop.
pub fn spawn(listener: TcpListener, readiness: Readiness, registry: Registry) {
    let options = ServeOptions {
        // Not by those who answer requests: a probe must not wait behind them.
        workers: Workers::here(),
        drain: Duration::ZERO,
        grace: Duration::ZERO,
        on_panic: || StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let never_ordered = Shutdown::new(Readiness::new());
    tokio::spawn(serve(listener, router(readiness, registry), options, never_ordered));
}

/// `/live`, `/ready` and `/metrics`.
pub fn router(readiness: Readiness, registry: Registry) -> Router {
    Router::new()
        .route("/live", get(|| async { Json(json!({"live": true})) }))
        .route("/ready", get(move || async move { ready(&readiness) }))
        .route("/metrics", get(move |headers: HeaderMap| async move { scrape(&registry, &headers) }))
}

fn ready(readiness: &Readiness) -> (StatusCode, Json<Value>) {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))),
    }
}

fn scrape(registry: &Registry, headers: &HeaderMap) -> Response {
    let (kind, text) = if prefers_openmetrics(headers) {
        (OPENMETRICS, metrics::encode_openmetrics(registry))
    } else {
        (TEXT, metrics::encode(registry))
    };
    match text {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, kind), (VARY, "accept")], text).into_response(),
        Err(error) => {
            let text = format!("failed to write metrics: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
