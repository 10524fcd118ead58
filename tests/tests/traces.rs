//! One trace per request, from the gateway to the model, as a collector sees it.
//!
//! Comes in: processes that are told where a collector is. Goes out: the spans and their parents. Never: a
//! span that only one side knows of.

use anyhow::{Context as _, Result};
use canopy_tests::collector::{Collector, Span};
use canopy_tests::http::{client, send};
use canopy_tests::line::{Model, Server, row};
use canopy_tests::process::Signal;
use serde_json::Value;

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
    // The first request also asks what the model is; the next ones show the usual way.
    ask_within_trace(&gateway, EARLIER).await?;
    Ok((model, predictor, gateway))
}

/// Sends a request in the name of a caller whose trace is kept.
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
async fn a_callers_trace_goes_on_through_gateway_and_predictor_to_the_model() -> Result<()> {
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
async fn a_request_without_a_trace_begins_one_that_is_in_the_log_too() -> Result<()> {
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
async fn spans_that_wait_are_sent_before_the_process_ends() -> Result<()> {
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
