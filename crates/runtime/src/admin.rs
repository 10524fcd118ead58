//! The admin port: liveness, readiness and metrics, apart from the port that serves.
//!
//! Comes in: the process's readiness and its registry. Goes out: three answers. Never: a call to anything;
//! a probe must not fail because something else is slow.

use std::time::Duration;

use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::metrics;
use crate::readiness::Readiness;
use crate::serve::{ServeOptions, serve};
use crate::shutdown::Shutdown;
use crate::workers::Workers;

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
        .route("/metrics", get(move || async move { scrape(&registry) }))
}

fn ready(readiness: &Readiness) -> (StatusCode, Json<Value>) {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))),
    }
}

fn scrape(registry: &Registry) -> (StatusCode, [(header::HeaderName, &'static str); 1], String) {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    match metrics::encode(registry) {
        Ok(text) => (StatusCode::OK, kind, text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, kind, format!("failed to write metrics: {error}\n"))
        }
    }
}
