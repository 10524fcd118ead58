//! A collector of traces for OTLP over HTTP, which keeps all spans with their parents.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as StatusCodeOfSpan;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::{SOON, until};

/// One span, and the service that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The `service.name` of the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace id in hexadecimal.
    pub trace: String,
    /// The span id in hexadecimal.
    pub id: String,
    /// The id of its parent; empty if it has none.
    pub parent: String,
    /// `server`, `client` or `internal`.
    pub kind: String,
    /// Whether it is marked as an error.
    pub is_error: bool,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Collector {
    /// Starts a collector on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Starts a collector on a free port of an address of this machine.
    pub async fn start_at(at: IpAddr) -> Result<Self> {
        let spans = Arc::default();
        let router = Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&spans));
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, spans, server })
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a trace has `count` spans; returns them in the order of their start.
    pub async fn trace(&self, trace: &str, count: usize) -> Result<Vec<Span>> {
        let found = until("the spans of a trace", SOON, async || {
            let found: Vec<_> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
            ensure!(found.len() >= count, "only {} spans of {trace} came: {found:?}", found.len());
            Ok(found)
        });
        let mut waiting = found.await?;
        let (mut ordered, mut parent) = (Vec::new(), None);
        while let Some(next) = waiting.iter().position(|span| match &parent {
            None => waiting.iter().all(|other| other.id != span.parent),
            Some(parent) => span.parent == *parent,
        }) {
            let span = waiting.remove(next);
            parent = Some(span.id.clone());
            ordered.push(span);
        }
        ensure!(waiting.is_empty(), "these spans are no chain: {ordered:?} and {waiting:?}");
        Ok(ordered)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(spans): State<Arc<Mutex<Vec<Span>>>>,
    body: Bytes,
) -> Result<(), (StatusCode, String)> {
    let received = read(&body).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error:#}")))?;
    spans.lock().unwrap_or_else(PoisonError::into_inner).extend(received);
    Ok(())
}

fn read(body: &[u8]) -> Result<Vec<Span>> {
    let request = ExportTraceServiceRequest::decode(body)?;
    let mut spans = Vec::new();
    for of_process in request.resource_spans {
        let attributes = of_process.resource.unwrap_or_default().attributes;
        let service = attributes.into_iter().find(|a| a.key == "service.name").and_then(|a| a.value?.value);
        let Some(any_value::Value::StringValue(service)) = service else {
            bail!("spans without a service.name");
        };
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (trace, id, parent) = (hex(&span.trace_id), hex(&span.span_id), hex(&span.parent_span_id));
            let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_lowercase();
            let is_error =
                span.status.as_ref().is_some_and(|status| status.code() == StatusCodeOfSpan::Error);
            let attributes = span.attributes.into_iter().map(|a| (a.key, a.value.and_then(|v| v.value)));
            let attributes = attributes.map(|(key, value)| (key, text(value))).collect();
            let (service, name) = (service.clone(), span.name);
            spans.push(Span { service, name, trace, id, parent, kind, is_error, attributes });
        }
    }
    Ok(spans)
}

fn text(value: Option<any_value::Value>) -> String {
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
