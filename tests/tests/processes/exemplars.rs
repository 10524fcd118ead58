//! `OpenMetrics` with exemplars at the admin ports of both processes. Only sampled traces become exemplars.

use anyhow::{Result, ensure};
use canopy_tests::http::{Reply, client, send};
use canopy_tests::test_server::{Model, Server, row};

/// The `Accept` header of Prometheus 2.42.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const KEPT: &str = "0af7651916cd43dd8448eb211c80319c";
const NOT_KEPT: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn ask(gateway: &Server, trace: &str, flags: &str) -> Result<()> {
    let request = client()?.post(format!("http://{}/api/predict", gateway.address)).json(&row());
    let context = format!("00-{trace}-b7ad6b7169203331-{flags}");
    let reply = send(request.header("traceparent", context)).await?;
    ensure!(reply.status == 200, "{}", reply.text);
    Ok(())
}

async fn scrape(server: &Server) -> Result<Reply> {
    let request = client()?.get(format!("http://{}/metrics", server.admin));
    let reply = send(request.header("accept", PROMETHEUS)).await?;
    assert_eq!(reply.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(reply.header("vary"), "accept");
    ensure!(reply.text.ends_with("\n# EOF\n"), "{}", reply.text);
    Ok(reply)
}

#[tokio::test]
async fn the_bucket_of_a_request_has_its_trace_as_an_exemplar() -> Result<()> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    let gateway = Server::gateway(predictor.address, &[]).await?;
    let families = [
        (&gateway, "canopy_gateway_request_duration_seconds", "canopy_gateway_requests"),
        (&gateway, "canopy_gateway_upstream_duration_seconds", "canopy_gateway_upstream_requests"),
        (&predictor, "canopy_predictor_prediction_duration_seconds", "canopy_predictor_requests"),
    ];

    ask(&gateway, NOT_KEPT, "00").await?;
    for (server, family, counter) in families {
        let text = scrape(server).await?.text;
        ensure!(
            !text.contains("trace_id"),
            "expected no exemplar of a trace that is not sampled, got:\n{text}"
        );
        for line in [
            format!("# TYPE {family} histogram\n# UNIT {family} seconds\n"),
            format!("# TYPE {counter} counter\n"),
            format!("{counter}_total{{"),
            "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n".to_owned(),
        ] {
            ensure!(text.contains(&line), "no {line:?} in\n{text}");
        }
        let plain = server.admin("/metrics").await?;
        assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    }

    ask(&gateway, KEPT, "01").await?;
    ask(&gateway, NOT_KEPT, "00").await?;
    for (server, family, _) in families {
        let text = scrape(server).await?.text;
        let exemplar = format!(" # {{trace_id=\"{KEPT}\"}} ");
        let of_family = text.lines().filter(|line| line.starts_with(&format!("{family}_bucket{{")));
        let lines: Vec<_> = of_family.filter(|line| line.contains("trace_id")).collect();
        ensure!(lines.len() == 1 && lines[0].contains(&exemplar), "{lines:?}");
        ensure!(lines[0].contains("model=\"demo\""), "{lines:?}");
    }
    Ok(())
}
