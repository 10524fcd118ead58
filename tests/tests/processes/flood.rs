//! The limit of log lines: a thousand equal errors give few lines, which contain the number of suppressed ones.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::http::{client, send};
use canopy_tests::metrics::Scrape;
use canopy_tests::process::{Signal, free_address};
use canopy_tests::test_server::{Server, row};
use canopy_tests::wait::{SOON, until};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The number of concurrent clients, and of requests of each.
const CLIENTS: u64 = 20;
const TIMES: u64 = 50;

fn is_failure(line: &Value) -> bool {
    line["message"].as_str().is_some_and(|message| message.starts_with("failed: "))
}

fn suppressed(line: &Value) -> u64 {
    line["suppressed"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn a_thousand_errors_give_few_lines_and_all_are_counted() -> Result<()> {
    // No process listens there.
    let environment = [("CANOPY_DRAIN_SECONDS", "0".to_owned())];
    let mut gateway = Server::gateway(free_address()?, &environment).await?;
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = format!("http://{}/api/predict", gateway.address);
        clients.spawn(async move {
            let client = client()?;
            for _ in 0..TIMES {
                let reply = send(client.post(&url).json(&row())).await?;
                ensure!(reply.status == 503, "{}", reply.text);
            }
            Ok(())
        });
    }
    for ended in clients.join_all().await {
        ended?;
    }
    // The next line that is written has the number of suppressed lines.
    let mut asked = CLIENTS * TIMES;
    until("a line with a number of suppressed lines", SOON, async || {
        gateway.post("/api/predict", &row()).await?;
        asked += 1;
        ensure!(
            gateway.process.log()?.iter().any(|line| suppressed(line) > 0),
            "expected a line with a number of suppressed lines"
        );
        Ok(())
    })
    .await?;
    let seconds = began.elapsed().as_secs() + 1;

    let scrape = Scrape(gateway.admin("/metrics").await?.text);
    let counted = scrape.count("canopy_gateway_requests_total", &["code=\"503\""])?;
    assert_eq!(counted, asked);
    gateway.process.signal(Signal::TERM)?;
    assert_eq!(gateway.process.ended().await?.code(), Some(0));
    let log = gateway.process.log()?;
    let lines: Vec<_> = log.iter().filter(|line| is_failure(line)).collect();
    ensure!(lines.len() as u64 <= 10 + seconds, "got {} lines in {seconds} seconds", lines.len());
    let place = "gateway/src/http/request_context.rs:";
    let rest = log.iter().filter_map(|line| line["places"].as_str());
    let rest = rest.flat_map(|places| places.split(", ")).find(|one| one.contains(place));
    let rest = match rest {
        Some(rest) => rest.split(' ').next().and_then(|count| count.parse().ok()).context("a count")?,
        None => 0,
    };
    let told = lines.len() as u64 + lines.iter().map(|line| suppressed(line)).sum::<u64>() + rest;
    assert_eq!(told, asked, "{rest} at the end, and {lines:?}");
    Ok(())
}
