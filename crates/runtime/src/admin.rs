//! The admin port: `/live`, `/ready`, `/metrics` and `/log`.
//!
//! Handlers call no other process, so a probe does not fail because another process is slow. Only callers on the same machine
//! or in the same pod can change the log filter.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::header::{CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::metrics::{self, Registry};
use crate::negotiation::prefers_openmetrics;
use crate::readiness::Readiness;
use crate::server::connections::Connections;
use crate::server::host_check::AllowedHosts;
use crate::server::workers::Workers;
use crate::server::{Peer, ServeOptions, Timing, serve};
use crate::shutdown::Shutdown;
use crate::telemetry::log_filter::{ChangeError, LogFilter};

/// The maximum number of connections: only a few clients send probes and scrapes.
const CONNECTIONS_MAX: usize = 256;
/// The maximum length of a filter.
const FILTER_MAX_BYTES: usize = 4096;
/// The time limit for a filter to arrive.
const FILTER_TIME: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the log filter can be changed over the admin port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogControl {
    /// By clients on the same machine or in the same pod. Unsafe behind a proxy on the same machine, whose clients all seem
    /// local.
    Local,
    /// Not at all.
    Off,
}

impl LogControl {
    /// The value of the flag.
    pub fn of_flag(is_set: bool) -> Self {
        if is_set { Self::Local } else { Self::Off }
    }
}

/// Serves the admin port in the background until the process exits: probes and scrapes continue while requests drain.
pub fn spawn(listener: TcpListener, readiness: Readiness, registry: Registry, control: LogControl) {
    let options = ServeOptions {
        // Not on the worker threads, so that a probe does not wait for requests.
        workers: Workers::here(),
        connections: Connections::new(CONNECTIONS_MAX, &registry),
        timing: Timing::default(),
        drain: Duration::ZERO,
        grace: Duration::ZERO,
        on_panic: || StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        hosts: listener
            .local_addr()
            .map_or_else(|_| AllowedHosts::default(), |address| AllowedHosts::of_listener(address, &[])),
        on_wrong_host: || {
            let how =
                "the Host header must be localhost or an IP address where the admin port is on loopback";
            problem(StatusCode::MISDIRECTED_REQUEST, how)
        },
        tells_peer: true,
    };
    let never_ordered = Shutdown::new(Readiness::new());
    tokio::spawn(serve(listener, router(readiness, registry, control), options, never_ordered));
}

/// `/live`, `/ready`, `/metrics` and `/log`.
pub fn router(readiness: Readiness, registry: Registry, control: LogControl) -> Router {
    // One at a time: with many models a scrape takes long, and concurrent scrapes would use all CPUs.
    let scrapes = Arc::new(Semaphore::new(1));
    let change = move |peer, body| change_log(control, peer, body);
    Router::new()
        .route("/live", get(|| async { Json(json!({"live": true})) }))
        .route("/ready", get(move || async move { ready(&readiness) }))
        .route(
            "/metrics",
            get(move |headers: HeaderMap| async move { scrape_apart(&scrapes, registry, &headers).await }),
        )
        .route("/log", get(|| async { log() }).put(change))
}

/// The log filter, in the syntax of `RUST_LOG`.
fn log() -> Response {
    LogFilter::of_process().map_or_else(no_log, |levels| format!("{levels}\n").into_response())
}

async fn change_log(control: LogControl, peer: Option<Extension<Peer>>, body: Body) -> Response {
    if control == LogControl::Off {
        let how = "the log filter cannot be changed while this process runs: \
                   start it with --log-control or CANOPY_LOG_CONTROL=true, or set RUST_LOG and restart it";
        return problem(StatusCode::FORBIDDEN, how);
    }
    // A client that may scrape this port must not silence the log, or fill a disk with it.
    if !peer.is_some_and(|Extension(Peer(peer))| peer.ip().to_canonical().is_loopback()) {
        let how = "the log filter can only be changed from the same machine or pod, for example by kubectl port-forward";
        return problem(StatusCode::FORBIDDEN, how);
    }
    let filter = match timeout(FILTER_TIME, to_bytes(body, FILTER_MAX_BYTES)).await {
        Ok(Ok(filter)) => filter,
        Ok(Err(_)) => {
            let how = format!("a filter may have at most {FILTER_MAX_BYTES} bytes");
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &how);
        }
        Err(_) => {
            let how = format!("the filter did not arrive within {FILTER_TIME:?}");
            return problem(StatusCode::REQUEST_TIMEOUT, &how);
        }
    };
    let Ok(filter) = std::str::from_utf8(&filter) else {
        return problem(StatusCode::BAD_REQUEST, "the filter is not UTF-8");
    };
    match LogFilter::of_process().map(|levels| levels.change(filter)) {
        Some(Ok(())) => log(),
        Some(Err(error @ ChangeError::Filter(_))) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Some(Err(error @ ChangeError::NoLog(_))) => problem(StatusCode::CONFLICT, &error.to_string()),
        None => no_log(),
    }
}

fn no_log() -> Response {
    problem(StatusCode::NOT_FOUND, "this process has no log filter to change")
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn ready(readiness: &Readiness) -> (StatusCode, Json<Value>) {
    match readiness.check() {
        Ok(()) => (StatusCode::OK, Json(json!({"ready": true}))),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))),
    }
}

/// Formats the metrics on another thread. For a thousand models this takes so long that it would delay new connections and probes.
async fn scrape_apart(scrapes: &Semaphore, registry: Registry, headers: &HeaderMap) -> Response {
    // The semaphore is never closed.
    let _turn = scrapes.acquire().await;
    let is_openmetrics = prefers_openmetrics(headers);
    let scraping = spawn_blocking(move || scrape(&registry, is_openmetrics));
    scraping.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn scrape(registry: &Registry, is_openmetrics: bool) -> Response {
    let (kind, text) = if is_openmetrics {
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
