//! Spans of requests and their propagation by W3C trace context.
//!
//! A request whose trace is not sampled has no spans: only its trace id, for log lines and for the next process.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans of traces. Log output excludes it; the exporter exports only spans with this target.
pub const TARGET: &str = "canopy::trace";

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of a `traceparent` value.
const TRACEPARENT_BYTES: usize = 55;

/// Whether the trace with this id, and this parent if any, is sampled.
type Keeps = Box<dyn Fn(Option<&Context>, TraceId) -> bool + Send + Sync>;

/// Not set without a collector.
static KEEPS: OnceLock<Keeps> = OnceLock::new();

thread_local! {
    /// See [`next_id`].
    static BEGINS: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Creates spans for sampled requests from now on. The sampler of the exporter must decide the same, and new traces must
/// have the ids of [`next_id`].
pub fn keep_where(keeps: impl Fn(Option<&Context>, TraceId) -> bool + Send + Sync + 'static) {
    // There is one exporter per process, so there is no second call.
    drop(KEEPS.set(Box::new(keeps)));
}

/// The trace id reserved for the next root span on this thread, if any.
pub fn next_id() -> Option<TraceId> {
    BEGINS.take()
}

/// The trace of a request, and the parent of its next span.
#[derive(Clone, Debug)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    sampled: bool,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// The context of the headers, or a new context that is not sampled, whose id still correlates log lines.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self::sent(headers).unwrap_or_else(Self::minted)
    }

    fn sent(headers: &HeaderMap) -> Option<Self> {
        let context = headers.get(&TRACEPARENT).and_then(|value| Self::parse(value.as_bytes()))?;
        Some(Self { state: headers.get(&TRACESTATE).cloned(), ..context })
    }

    fn minted() -> Self {
        Self {
            trace_id: TraceId::from(fastrand::u128(1..)),
            span_id: SpanId::from(fastrand::u64(1..)),
            sampled: false,
            state: None,
        }
    }

    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; a later version may have more fields after another dash.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, digits| {
            part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !(hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
            return None;
        }
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = TraceId::from_hex(trace).ok().filter(|&id| id != TraceId::INVALID)?;
        let span_id = SpanId::from_hex(span).ok().filter(|&id| id != SpanId::INVALID)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, sampled, state: None })
    }

    /// The trace id, for log lines and exemplars.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Whether the trace is sampled.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// Adds the context to the headers of a request to another process.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.traceparent()) {
            headers.insert(&TRACEPARENT, value);
        }
        if let Some(state) = &self.state {
            headers.insert(&TRACESTATE, state.clone());
        }
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`. It is written for every request to another process, so without a formatter.
    fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-................................-................-..";
        let (trace, span) = (self.trace_id.to_bytes(), self.span_id.to_bytes());
        for (place, bytes) in [(3, &trace[..]), (36, &span[..]), (53, &[u8::from(self.sampled)][..])] {
            for (pair, byte) in text[place..].chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
        text
    }

    fn remote(&self) -> Context {
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let state =
            self.state.as_ref().and_then(|s| s.to_str().ok()).and_then(|s| s.parse::<TraceState>().ok());
        let span = SpanContext::new(self.trace_id, self.span_id, flags, true, state.unwrap_or_default());
        Context::new().with_remote_span_context(span)
    }

    /// The same trace, not sampled from here on, also if the client samples it.
    fn left_out(self) -> Self {
        Self { span_id: SpanId::from(fastrand::u64(1..)), sampled: false, ..self }
    }

    /// The context of `span` if it is part of a trace, otherwise `self`.
    fn within(self, span: &Span) -> Self {
        if span.is_disabled() {
            return self;
        }
        let context = span.context();
        let span = context.span();
        let found = span.span_context();
        if !found.is_valid() {
            return self;
        }
        let (trace_id, span_id, sampled) = (found.trace_id(), found.span_id(), found.is_sampled());
        Self { trace_id, span_id, sampled, state: self.state }
    }
}

/// The hexadecimal digit of a number below 16.
fn digit(number: u8) -> u8 {
    if number < 10 { b'0' + number } else { b'a' + number - 10 }
}

/// A span of a request's trace. It starts when it is created and ends when it and all its clones are dropped.
#[derive(Clone, Debug)]
pub struct RequestSpan {
    span: Span,
    context: TraceContext,
}

impl RequestSpan {
    /// The span of a request to this process; `route` is `None` for an unknown path.
    pub fn server(request: &Parts, route: Option<&'static str>) -> Self {
        let Parts { method, uri, headers, .. } = request;
        let sent = TraceContext::sent(headers);
        // Without a context in the request the trace starts here.
        let begins = sent.is_none();
        let context = sent.unwrap_or_else(TraceContext::minted);
        let Some(keeps) = KEEPS.get() else { return Self { span: Span::none(), context } };
        let remote = (!begins).then(|| context.remote());
        if !keeps(remote.as_ref(), context.trace_id) {
            return Self { span: Span::none(), context: context.left_out() };
        }
        BEGINS.set(begins.then_some(context.trace_id));
        let span = tracing::info_span!(
            target: TARGET, parent: None, "server",
            otel.name = %Name(known(method).unwrap_or("HTTP"), route),
            otel.kind = "server", otel.status_code = Empty,
            http.request.method = known(method).unwrap_or("_OTHER"),
            http.request.method_original = known(method).is_none().then_some(method.as_str()),
            http.route = route, url.path = uri.path(), url.scheme = "http",
            http.response.status_code = Empty, error.type = Empty,
            canopy.model = Empty, canopy.version = Empty, canopy.rows = Empty,
        );
        if !span.is_disabled() {
            drop(span.set_parent(remote.unwrap_or_default()));
        }
        // Reading its context starts the span.
        let context = context.within(&span);
        BEGINS.set(None);
        Self { span, context }
    }

    /// The span of a request from this process to the path of a server, `http://HOST:PORT`, within the span of the request
    /// that it handles.
    #[must_use]
    pub fn client(&self, method: &Method, path: &'static str, server: &str) -> Self {
        self.child(|| {
            tracing::info_span!(
                target: TARGET, parent: &self.span, "client",
                otel.name = format_args!("{method} {path}"), otel.kind = "client", otel.status_code = Empty,
                http.request.method = %method, url.full = format_args!("{server}{path}"), url.template = path,
                server.address = host_and_port(server).0, server.port = host_and_port(server).1,
                http.response.status_code = Empty, error.type = Empty,
                canopy.model = Empty, canopy.version = Empty, canopy.rows = Empty,
            )
        })
    }

    /// The span of inference.
    #[must_use]
    pub fn inference(&self) -> Self {
        self.child(|| {
            tracing::info_span!(
                target: TARGET, parent: &self.span, "inference",
                otel.kind = "internal", otel.status_code = Empty, error.type = Empty,
                canopy.model = Empty, canopy.version = Empty, canopy.rows = Empty,
            )
        })
    }

    fn child(&self, make: impl FnOnce() -> Span) -> Self {
        let context = self.context.clone();
        if self.span.is_disabled() {
            return Self { span: Span::none(), context };
        }
        let span = make();
        let context = context.within(&span);
        Self { span, context }
    }

    /// The context for the next process and for log lines.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Records the model and the number of rows.
    pub fn model(&self, model: &str, version: &str, rows: usize) {
        if !self.span.is_disabled() {
            self.span.record("canopy.model", model);
            self.span.record("canopy.version", version);
            self.span.record("canopy.rows", rows);
        }
    }

    /// Records the HTTP status, if there was a response, and the error code of a failure that the client did not cause.
    pub fn finish(&self, status: impl Into<Option<u16>>, failure: Option<&str>) {
        if !self.span.is_disabled() {
            if let Some(status) = status.into() {
                self.span.record("http.response.status_code", status);
            }
            if let Some(word) = failure {
                self.span.record("error.type", word);
                self.span.record("otel.status_code", "ERROR");
            }
        }
    }

    /// Records that it was cancelled, which is not a failure.
    pub fn cancel(&self) {
        if !self.span.is_disabled() {
            self.span.record("error.type", "cancelled");
        }
    }
}

/// The name of a span: the method, and the route if there is one.
struct Name<'a>(&'a str, Option<&'static str>);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        self.1.map_or(Ok(()), |route| write!(f, " {route}"))
    }
}

/// The name of a standard HTTP method; `None` for others, which clients can invent.
fn known(method: &Method) -> Option<&str> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    Some(method.as_str()).filter(|name| KNOWN.contains(name))
}

/// The host of `http://HOST:PORT`, without the brackets of an IPv6 address, and the port.
fn host_and_port(server: &str) -> (&str, Option<u16>) {
    let authority = server.strip_prefix("http://").unwrap_or(server);
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok())
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.trace_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(k, v)| (k.clone(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_context_is_passed_on_unchanged_without_a_collector() {
        let sent = headers(&[(&TRACEPARENT, SENT), (&TRACESTATE, "vendor=1")]);
        let mut request = http::Request::post("/predict").body(()).unwrap().into_parts().0;
        request.headers = sent.clone();
        let server = RequestSpan::server(&request, Some("/predict"));
        let client = server.client(&Method::POST, "/predict", "10.0.0.1:8001");
        let mut out = HeaderMap::new();
        client.context().inject(&mut out);
        assert_eq!(out, sent);
        assert_eq!(client.context().to_string(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn host_and_port_of_a_server_are_split() {
        let check = |server, host, port| assert_eq!(host_and_port(server), (host, port), "{server}");
        check("http://127.0.0.1:8001", "127.0.0.1", Some(8001));
        check("http://[::1]:80", "::1", Some(80));
        check("http://predictor.shop:8001", "predictor.shop", Some(8001));
    }

    #[test]
    fn a_missing_or_broken_context_is_replaced_by_a_new_one_that_is_not_sampled() {
        let broken = [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
        ];
        for text in broken {
            let context = TraceContext::from_headers(&headers(&[(&TRACEPARENT, text)]));
            assert_ne!(context.to_string(), "0af7651916cd43dd8448eb211c80319c", "{text}");
            assert_ne!(context.trace_id(), TraceId::INVALID);
            assert!(!context.sampled);
        }
    }

    #[test]
    fn the_known_fields_of_a_later_version_of_the_header_are_read() {
        let text = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        let context = TraceContext::from_headers(&headers(&[(&TRACEPARENT, text)]));
        assert_eq!(context.to_string(), "0af7651916cd43dd8448eb211c80319c");
    }
}
