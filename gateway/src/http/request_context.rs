//! The context of a request: trace, duration, metrics, log and error response. Each request is counted and, if it fails, logged
//! exactly once; a request whose client disconnects is counted as such.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use canopy_contract::code::Code;
use canopy_contract::problem::{MEDIA_TYPE, Problem};
use canopy_runtime::telemetry::log_limit::{LINES_PER_SECOND, LogLimit};
use canopy_runtime::trace::RequestSpan;
use http::header::{ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use tracing::Level;

use crate::app::App;
use crate::error::language::Language;
use crate::error::{ApiError, truncated};
use crate::metrics::RequestInFlight;
use crate::model::Model;
use crate::revision::Revision;

static CLIENT_ERRORS: LogLimit = LogLimit::per_second(LINES_PER_SECOND);

/// The route of requests that match none.
pub(crate) const NO_ROUTE: &str = "unknown";

/// A request in progress.
pub(crate) struct RequestContext<'a> {
    app: &'a App,
    route: &'static str,
    /// The server span.
    pub(crate) span: RequestSpan,
    started: Instant,
    model: Option<Arc<Model>>,
    revision: Option<Arc<Revision>>,
    finished: bool,
    /// Counts the request as in progress until this is dropped.
    _in_flight: RequestInFlight,
}

/// Handles `request` to `route` with `work`, and turns an error into a problem response.
pub(crate) async fn handle<W>(app: &App, route: &'static str, request: Request, work: W) -> Response
where
    W: AsyncFnOnce(&mut RequestContext<'_>, Body) -> Result<Response, ApiError>,
{
    let (head, body) = request.into_parts();
    let mut context = RequestContext {
        app,
        route,
        span: RequestSpan::server(&head, (route != NO_ROUTE).then_some(route)),
        started: Instant::now(),
        model: None,
        revision: None,
        finished: false,
        _in_flight: app.metrics.request_started(),
    };
    match work(&mut context, body).await {
        Ok(response) => {
            let is_accepted = response.status() == StatusCode::ACCEPTED;
            context.finish(if is_accepted { Code::Accepted } else { Code::Ok });
            response
        }
        Err(error) => {
            let error = explain_compressed(error, &head.headers);
            context.log(&error);
            context.finish(error.code());
            problem(&error, Language::preferred(&head.headers))
        }
    }
}

impl RequestContext<'_> {
    /// Sets the model that the request counts for.
    pub(crate) fn set_model(&mut self, model: &Arc<Model>) {
        self.model = Some(model.clone());
    }

    /// Sets the revision that responded; the request counts for its version.
    pub(crate) fn set_revision(&mut self, revision: &Arc<Revision>) {
        self.revision = Some(revision.clone());
    }

    fn finish(&mut self, code: Code) {
        self.finished = true;
        let took = self.started.elapsed();
        match &self.model {
            None => self.app.series.record_request(code, took, self.span.context()),
            Some(model) => match self.revision.take().or_else(|| model.latest_revision()) {
                None => model.series().record_request(code, took, self.span.context()),
                Some(revision) => revision.series.record_request(code, took, self.span.context()),
            },
        }
        self.span.finish(code.status(), (code.status() >= 500).then_some(code.as_str()));
    }

    /// Logs an error, within the log limit.
    fn log(&self, error: &ApiError) {
        let is_client_error = error.code().status() < 500;
        // The log limits repeated warnings itself.
        let left_out = if is_client_error {
            let admitted = tracing::enabled!(Level::INFO).then(|| CLIENT_ERRORS.admit()).flatten();
            let Some(left_out) = admitted else { return };
            left_out
        } else if tracing::enabled!(Level::WARN) {
            0
        } else {
            return;
        };
        let revision = self.model.as_ref().and_then(|model| model.latest_revision());
        let trace_id = self.span.context();
        let model = self.model.as_ref().map(|model| model.id.name.as_str());
        let namespace = self.model.as_ref().map(|model| model.id.namespace.as_str());
        let version = revision.as_ref().map(|revision| revision.description.version.as_str());
        let endpoint = error.endpoint().unwrap_or(self.route);
        let code = error.code().as_str();
        let duration_ms = self.started.elapsed().as_secs_f64() * 1000.0;
        let what = error.log_message();
        if is_client_error {
            tracing::info!(
                %trace_id, model, namespace, version, endpoint, code, duration_ms, left_out, "rejected: {what}",
            );
        } else {
            let cause = error.cause();
            tracing::warn!(
                %trace_id, model, namespace, version, endpoint, code, cause, duration_ms, "failed: {what}",
            );
        }
    }
}

impl Drop for RequestContext<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if std::thread::panicking() {
            // The router's server responds; the request is counted here, where the model is known.
            self.log(&ApiError::Internal("a panic; the line before has its location"));
            self.finish(Code::Internal);
        } else {
            // The connection or HTTP/2 stream was closed.
            self.finish(Code::ClientClosed);
        }
    }
}

/// Replaces the error of a body that is no JSON if the body is compressed. Checked only then, since compressed data is never JSON.
fn explain_compressed(error: ApiError, headers: &HeaderMap) -> ApiError {
    let encoding = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
    match (&error, encoding) {
        (ApiError::MalformedJson(_), Some(encoding)) => {
            ApiError::UnsupportedEncoding(truncated(&String::from_utf8_lossy(encoding.as_bytes())))
        }
        _ => error,
    }
}

/// The response to a request whose handler panicked.
pub(crate) fn panicked() -> Response {
    problem(&ApiError::Internal("a panic"), Language::preferred(&HeaderMap::new()))
}

/// The response to a request that names another host than this server may be called by.
pub(crate) fn misdirected() -> Response {
    let detail = "the Host header must be localhost, an IP address, or a name that this gateway is called by";
    let problem = Problem::new(Code::MisdirectedRequest, detail);
    let mut response = (StatusCode::MISDIRECTED_REQUEST, Json(problem)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

fn problem(error: &ApiError, language: Language) -> Response {
    let problem = error.problem(language);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Body::from(serde_json::to_vec(&problem).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
        // The text depends on the client's language.
        headers.insert(VARY, HeaderValue::from(ACCEPT_LANGUAGE));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use axum::Router;
    use axum::extract::State;
    use axum::routing::get;
    use canopy_runtime::readiness::Readiness;
    use canopy_runtime::server::connections::Connections;
    use canopy_runtime::server::host_check::AllowedHosts;
    use canopy_runtime::server::workers::Workers;
    use canopy_runtime::server::{ServeOptions, Timing, serve};
    use canopy_runtime::shutdown::Shutdown;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn breaks(State(app): State<Arc<App>>, request: Request) -> Response {
        handle(&app, "/", request, async |_, _| panic!("a bug")).await
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_is_counted_and_the_next_request_is_answered() {
        let registry = canopy_runtime::metrics::Registry::new();
        let app = App::open(&Settings::default(), &registry).await.unwrap();
        let router = Router::new().route("/", get(breaks)).with_state(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = ServeOptions {
            workers: Workers::here(),
            connections: Connections::new(10, &registry),
            timing: Timing::default(),
            drain: Duration::ZERO,
            grace: Duration::from_secs(5),
            on_panic: panicked,
            hosts: AllowedHosts::Any,
            on_wrong_host: misdirected,
            tells_peer: false,
        };
        let shutdown = Shutdown::new(Readiness::new());
        let serving = tokio::spawn(serve(listener, router, options, shutdown.clone()));
        for count in 1..=2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(answer.contains(MEDIA_TYPE) && answer.contains("\"code\":\"internal\""), "{answer}");
            assert!(!answer.contains("a bug"), "{answer}");
            let metrics = canopy_runtime::metrics::encode(&registry).unwrap();
            let counted = format!("reason=\"internal\",version=\"\"}} {count}\n");
            assert!(metrics.contains(&counted), "{metrics}");
            assert!(metrics.contains("canopy_gateway_requests_in_flight 0\n"), "{metrics}");
        }
        shutdown.trigger();
        serving.await.unwrap();
    }
}
