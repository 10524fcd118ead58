//! One trace per request, from the gateway to the model, as a collector sees it.
//!
//! Comes in: processes that are told where a collector is. Goes out: the spans and their parents. Never: a
//! span that only one side knows of.

use anyhow::{Context as _, Result};
use canopy_tests::collector::{Collector, Span};
use canopy_tests::http::{client, send};
use canopy_tests::line::{Model, Server, row};
use canopy_tests::process::Signal;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
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
    assert_eq!(gateway.post("/api/predict", &row()).await?.status, 200);
    Ok((model, predictor, gateway))
}

/// Sends a request in the name of a caller whose trace is kept.
async fn ask_within_trace(gateway: &Server) -> Result<()> {
    let request = client()?.post(format!("http://{}/api/predict", gateway.address)).json(&row());
    let reply = send(request.header("traceparent", format!("00-{TRACE}-{CALLER}-01"))).await?;
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
    ask_within_trace(&gateway).await?;
    let spans = collector.trace(TRACE, WAY.len()).await?;
    assert_eq!(names(&spans), WAY);
    assert_eq!(spans[0].parent, CALLER);
    for server in [&gateway, &predictor] {
        let log = server.process.log()?;
        assert!(log.iter().any(|line| line["trace_id"] == TRACE), "no line has the trace's id: {log:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_that_is_in_the_log_too() -> Result<()> {
    let collector = Collector::start().await?;
    let (_model, _predictor, gateway) = line(&collector, 100).await?;
    assert_eq!(gateway.post("/api/predict", &row()).await?.status, 200);
    let log = gateway.process.log()?;
    let last =
        log.iter().rev().find_map(|line| line["trace_id"].as_str()).context("no line has a trace's id")?;
    let spans = collector.trace(last, WAY.len()).await?;
    assert_eq!(names(&spans), WAY);
    assert_eq!(spans[0].parent, "");
    Ok(())
}

#[tokio::test]
async fn spans_that_wait_are_sent_before_the_process_ends() -> Result<()> {
    let collector = Collector::start().await?;
    let hour = 3_600_000;
    let (_model, mut predictor, mut gateway) = line(&collector, hour).await?;
    ask_within_trace(&gateway).await?;
    for server in [&mut gateway, &mut predictor] {
        server.process.signal(Signal::TERM)?;
        assert_eq!(server.process.ended().await?.code(), Some(0));
    }
    assert_eq!(names(&collector.trace(TRACE, WAY.len()).await?), WAY);
    Ok(())
}
