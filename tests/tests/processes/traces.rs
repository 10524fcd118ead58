//! Traces: one per request, from the gateway to the model, as a collector receives them. No request waits for a collector.

use std::time::Duration;

use anyhow::{Context as _, Result};
use canopy_tests::collector::{Collector, Span};
use canopy_tests::http::{client, send};
use canopy_tests::metrics::Scrape;
use canopy_tests::process::{Signal, free_address};
use canopy_tests::test_server::{Model, Server, row};
use canopy_tests::wait::{SOON, until};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::Instant;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const EARLIER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "b7ad6b7169203331";

async fn line(collector: &Collector, delay_milliseconds: u64) -> Result<(Model, Server, Server)> {
    let model = Model::demo().await?;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", delay_milliseconds.to_string()),
        ("CANOPY_DRAIN_SECONDS", "0".to_owned()),
    ];
    let predictor = Server::predictor(&model, &environment).await?;
    let gateway = Server::gateway(predictor.address, &environment).await?;
    // The first request also reads the description of the model, so later requests have the usual spans.
    ask_within_trace(&gateway, EARLIER).await?;
    Ok((model, predictor, gateway))
}

/// Sends a request within a sampled trace.
async fn ask_within_trace(gateway: &Server, trace: &str) -> Result<()> {
    let request = client()?.post(format!("http://{}/api/predict", gateway.address)).json(&row());
    let reply = send(request.header("traceparent", format!("00-{trace}-{CALLER}-01"))).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    Ok(())
}

fn names(spans: &[Span]) -> Vec<(&str, &str)> {
    spans.iter().map(|span| (span.service.as_str(), span.name.as_str())).collect()
}

const WAY: [(&str, &str); 4] = [
    ("canopy-gateway", "POST /api/predict"),
    ("canopy-gateway", "POST /predict"),
    ("canopy-predictor", "POST /predict"),
    ("canopy-predictor", "inference"),
];

#[tokio::test]
async fn a_clients_trace_continues_through_gateway_and_predictor_to_the_model() -> Result<()> {
    let collector = Collector::start().await?;
    let (_model, predictor, gateway) = line(&collector, 100).await?;
    ask_within_trace(&gateway, TRACE).await?;
    let spans = collector.trace(TRACE, WAY.len()).await?;
    assert_eq!(names(&spans), WAY);
    assert_eq!(spans[0].parent, CALLER);
    for server in [&gateway, &predictor] {
        server.process.log_of("a line with the trace's id", 1, |line| line["trace_id"] == TRACE).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_without_a_trace_starts_one_that_is_also_in_the_log() -> Result<()> {
    let collector = Collector::start().await?;
    let (_model, _predictor, gateway) = line(&collector, 100).await?;
    assert_eq!(gateway.post("/api/predict", &row()).await?.status, 200);
    let is_new = |line: &Value| line["trace_id"].as_str().is_some_and(|trace| trace != EARLIER);
    let lines = gateway.process.log_of("a line with the id of a new trace", 1, is_new).await?;
    let trace = lines[0]["trace_id"].as_str().context("it is a text")?;
    let spans = collector.trace(trace, WAY.len()).await?;
    assert_eq!(names(&spans), WAY);
    assert_eq!(spans[0].parent, "");
    Ok(())
}

#[tokio::test]
async fn queued_spans_are_sent_before_the_process_ends() -> Result<()> {
    let collector = Collector::start().await?;
    let hour = 3_600_000;
    let (_model, mut predictor, mut gateway) = line(&collector, hour).await?;
    ask_within_trace(&gateway, TRACE).await?;
    for server in [&mut gateway, &mut predictor] {
        server.process.signal(Signal::TERM)?;
        assert_eq!(server.process.ended().await?.code(), Some(0));
    }
    assert_eq!(names(&collector.trace(TRACE, WAY.len()).await?), WAY);
    Ok(())
}

fn attributes(span: &Span, names: &[&str]) -> Vec<String> {
    let of = |name: &&str| span.attributes.get(*name).cloned().unwrap_or_default();
    names.iter().map(of).collect()
}

#[tokio::test]
async fn spans_have_the_attributes_of_the_http_conventions() -> Result<()> {
    let collector = Collector::start().await?;
    let (_model, predictor, gateway) = line(&collector, 100).await?;
    ask_within_trace(&gateway, TRACE).await?;
    let spans = collector.trace(TRACE, WAY.len()).await?;
    let kinds: Vec<_> = spans.iter().map(|span| (span.kind.as_str(), span.is_error)).collect();
    assert_eq!(kinds, [("server", false), ("client", false), ("server", false), ("internal", false)]);
    let http = ["http.request.method", "http.response.status_code", "error.type"];
    for span in &spans[..3] {
        assert_eq!(attributes(span, &http), ["POST", "200", ""], "{span:?}");
    }
    let of_servers = ["http.route", "url.path", "url.scheme", "http.request.method_original"];
    assert_eq!(attributes(&spans[0], &of_servers), ["/api/predict", "/api/predict", "http", ""]);
    assert_eq!(attributes(&spans[2], &of_servers), ["/predict", "/predict", "http", ""]);
    let of_clients = ["server.address", "server.port", "url.full", "url.template"];
    let address = predictor.address;
    assert_eq!(
        attributes(&spans[1], &of_clients),
        ["127.0.0.1", &address.port().to_string(), &format!("http://{address}/predict"), "/predict"]
    );
    for span in &spans[1..] {
        let canopy = ["canopy.model", "canopy.version", "canopy.rows"];
        assert_eq!(attributes(span, &canopy), ["demo", "1.0", "1"], "{span:?}");
    }

    // Methods and paths that clients choose do not become names of spans.
    let strange = client()?.request("BREW".parse()?, format!("http://{}/coffee", gateway.address));
    let strange = strange.header("traceparent", format!("00-{EARLIER}-{CALLER}-01"));
    assert_eq!(send(strange).await?.status, 404);
    let unknown = until("the span of an unknown method", SOON, async || {
        let spans = collector.spans();
        let found =
            spans.into_iter().find(|span| span.attributes.contains_key("http.request.method_original"));
        found.context("the collector has no such span")
    });
    let unknown = unknown.await?;
    assert_eq!(unknown.name, "HTTP");
    assert_eq!(
        attributes(&unknown, &["http.request.method", "http.route", "url.path"]),
        ["_OTHER", "", "/coffee"]
    );
    assert!(!unknown.is_error, "a caller's fault is no error of a server");
    Ok(())
}

#[tokio::test]
async fn a_failure_is_marked_in_its_span_and_in_those_that_return_the_error() -> Result<()> {
    let collector = Collector::start().await?;
    let (_model, mut predictor, gateway) = line(&collector, 100).await?;
    predictor.process.kill()?;
    let request = client()?.post(format!("http://{}/api/predict", gateway.address)).json(&row());
    let reply = send(request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"))).await?;
    assert_eq!(reply.status, 503);
    let spans = collector.trace(TRACE, 2).await?;
    assert!(spans.iter().all(|span| span.is_error), "{spans:?}");
    let said = ["http.response.status_code", "error.type"];
    assert_eq!(attributes(&spans[0], &said), ["503", "predictor_unavailable"]);
    assert_eq!(attributes(&spans[1], &said), ["", "predictor_unavailable"], "nobody has answered");
    Ok(())
}

/// The number of traces that a gateway with this sampler exports for `times` requests without a trace, and whether it exports
/// that of a request within a sampled trace.
async fn kept(sampler: &str, argument: &str, times: usize) -> Result<(usize, bool)> {
    let collector = Collector::start().await?;
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_TRACES_SAMPLER", sampler.to_owned()),
        ("OTEL_TRACES_SAMPLER_ARG", argument.to_owned()),
        ("CANOPY_DRAIN_SECONDS", "0".to_owned()),
    ];
    let mut gateway = Server::gateway(free_address()?, &environment).await?;
    for _ in 0..times {
        assert_eq!(gateway.get("/api/test").await?.status, 200);
    }
    let request = client()?.get(format!("http://{}/api/test", gateway.address));
    send(request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"))).await?;
    // Queued spans are sent when it ends.
    gateway.process.signal(Signal::TERM)?;
    assert_eq!(gateway.process.ended().await?.code(), Some(0));
    let (of_caller, others): (Vec<_>, Vec<_>) =
        collector.spans().into_iter().partition(|span| span.trace == TRACE);
    Ok((others.len(), !of_caller.is_empty()))
}

#[tokio::test]
async fn the_standard_variables_set_the_sampler() -> Result<()> {
    assert_eq!(kept("always_off", "", 5).await?, (0, false));
    assert_eq!(kept("parentbased_always_on", "", 5).await?, (5, true));
    assert_eq!(kept("parentbased_traceidratio", "0", 5).await?, (0, true));
    let (some, of_caller) = kept("parentbased_traceidratio", "0.5", 200).await?;
    assert!((50..150).contains(&some) && of_caller, "{some} of 200");
    Ok(())
}

#[tokio::test]
async fn the_predictor_does_not_sample_traces_that_the_gateway_does_not_sample() -> Result<()> {
    let collector = Collector::start().await?;
    let model = Model::demo().await?;
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()), ("CANOPY_DRAIN_SECONDS", "0".to_owned())];
    let mut predictor = Server::predictor(&model, &environment).await?;
    let leaves_out = [&environment[..], &[("OTEL_TRACES_SAMPLER", "always_off".to_owned())]].concat();
    let mut gateway = Server::gateway(predictor.address, &leaves_out).await?;
    ask_within_trace(&gateway, TRACE).await?;
    let is_of_trace = |line: &Value| line["trace_id"] == TRACE;
    for server in [&mut gateway, &mut predictor] {
        server.process.log_of("a line with the trace's id", 1, is_of_trace).await?;
        server.process.signal(Signal::TERM)?;
        assert_eq!(server.process.ended().await?.code(), Some(0));
    }
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace != TRACE), "{spans:?}");
    Ok(())
}

/// Sends requests that each start a trace; returns the longest time of a response.
async fn flood(gateway: &Server, times: usize) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        let began = Instant::now();
        assert_eq!(gateway.get("/api/test").await?.status, 200);
        longest = longest.max(began.elapsed());
    }
    Ok(longest)
}

/// Shows that a gateway without a working collector serves in bounded memory and ends; returns its log.
async fn without_collector(collector: String) -> Result<Vec<Value>> {
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ("CANOPY_DRAIN_SECONDS", "0".to_owned()),
    ];
    let mut gateway = Server::gateway(free_address()?, &environment).await?;
    let memory = async |gateway: &Server| {
        Scrape(gateway.admin("/metrics").await?.text).sum("process_resident_memory_bytes", &[])
    };
    // More than the queue of 2048 spans holds.
    let longest = flood(&gateway, 2500).await?;
    let full = memory(&gateway).await?;
    let longest = longest.max(flood(&gateway, 2500).await?);
    let grown = memory(&gateway).await? - full;
    assert!(longest < LONG, "a request took {longest:?}");
    assert!(grown < 4e6, "{grown} bytes more for spans that nobody takes");

    gateway.process.signal(Signal::TERM)?;
    assert_eq!(gateway.process.ended().await?.code(), Some(0));
    gateway.process.log()
}

/// The longest time of a response. It is less than the time-out of an export, which is ten seconds.
const LONG: Duration = Duration::from_secs(2);

#[tokio::test]
async fn requests_do_not_wait_for_a_collector_that_is_down() -> Result<()> {
    without_collector(format!("http://{}", free_address()?)).await.map(drop)
}

#[tokio::test]
async fn requests_do_not_wait_for_a_collector_that_never_answers() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let log = without_collector(endpoint).await?;
    silent.abort();
    let is_told = log.iter().any(|line| line["message"] == "failed to send the last spans");
    assert!(is_told, "it does not say that spans were lost");
    Ok(())
}
