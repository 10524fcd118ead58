//! Graceful shutdown by SIGTERM: requests in flight are answered, and clients get `Connection: close` before the port closes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use canopy_tests::http::{client, send};
use canopy_tests::metrics::Scrape;
use canopy_tests::process::Signal;
use canopy_tests::test_server::{Model, Server, row};
use canopy_tests::wait::{SOON, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than the steps of a test take during the drain, also on a busy machine.
const DRAIN: Duration = Duration::from_secs(4);

fn drain() -> (&'static str, String) {
    ("CANOPY_DRAIN_SECONDS", DRAIN.as_secs().to_string())
}

async fn until_closed(address: SocketAddr) -> Result<()> {
    let closed = async || match TcpStream::connect(address).await {
        Ok(_) => bail!("{address} still accepts"),
        Err(_) => Ok(()),
    };
    until("the port to close", SOON, closed).await
}

/// During the drain `/ready` fails, and both an existing and a new connection get a response with `Connection: close`.
async fn closes_connections(server: &Server, path: &str) -> Result<()> {
    let ready = server.admin("/ready").await?;
    ensure!(ready.status == 503, "expected 503 of /ready during the drain, got: {}", ready.text);
    let known = server.get(path).await?;
    let new = send(client()?.get(format!("http://{}{path}", server.address))).await?;
    for reply in [known, new] {
        assert_eq!((reply.status, reply.header("connection")), (200, "close"), "{}", reply.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_answers_requests_in_flight_and_closes_connections_before_its_port_closes() -> Result<()> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    let mut gateway = Server::gateway(predictor.address, &[drain()]).await?;
    assert_eq!(gateway.post("/api/predict", &row()).await?.status, 200);
    assert_eq!(gateway.get("/api/test").await?.header("connection"), "");

    predictor.process.signal(Signal::STOP)?;
    let url = format!("http://{}/api/predict", gateway.address);
    let in_flight = tokio::spawn(send(client()?.post(url).json(&row())));
    until("a request in flight", SOON, async || {
        let scrape = Scrape(gateway.admin("/metrics").await?.text);
        ensure!(
            scrape.count("canopy_gateway_requests_in_flight", &[])? == 1,
            "expected one request in flight"
        );
        Ok(())
    })
    .await?;

    let ordered = Instant::now();
    gateway.process.signal(Signal::TERM)?;
    until("the drain", SOON, async || closes_connections(&gateway, "/api/test").await).await?;
    until_closed(gateway.address).await?;
    assert!(ordered.elapsed() >= DRAIN, "it closed after {:?}", ordered.elapsed());
    gateway.process.still_runs()?;

    predictor.process.signal(Signal::CONT)?;
    let reply = in_flight.await??;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(gateway.process.ended().await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_predictor_answers_requests_in_flight_and_closes_connections_before_its_port_closes() -> Result<()>
{
    let model = Model::demo().await?;
    let mut predictor = Server::predictor(&model, &[drain()]).await?;
    assert_eq!(predictor.get("/health").await?.header("connection"), "");

    let mut slow = TcpStream::connect(predictor.address).await?;
    let body = row().to_string();
    let (first, rest) = body.split_at(5);
    let length = body.len();
    let head =
        "POST /predict HTTP/1.1\r\nHost: demo\r\nContent-Type: application/json\r\nExpect: 100-continue";
    slow.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n").as_bytes()).await?;
    let mut continues = [0; 25];
    slow.read_exact(&mut continues).await.context("the predictor does not read the body")?;
    assert_eq!(&continues, b"HTTP/1.1 100 Continue\r\n\r\n");
    slow.write_all(first.as_bytes()).await?;

    let ordered = Instant::now();
    predictor.process.signal(Signal::TERM)?;
    until("the drain", SOON, async || closes_connections(&predictor, "/health").await).await?;
    until_closed(predictor.address).await?;
    assert!(ordered.elapsed() >= DRAIN, "it closed after {:?}", ordered.elapsed());
    predictor.process.still_runs()?;

    slow.write_all(rest.as_bytes()).await?;
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"prediction\":1"), "{answer}");
    assert_eq!(predictor.process.ended().await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn prepare_ends_on_sigterm_while_it_waits_for_its_data() -> Result<()> {
    // Accepts connections and never responds.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/rows.csv", listener.local_addr()?);
    let download = json!({"uri": uri, "sha256": "0".repeat(64), "timeoutSeconds": 60});
    let model = Model::of(&json!({"csv": {"source": {"download": download}, "target": "y"}}))?;
    let mut prepare = model.prepare()?;
    let (_asking, _) = timeout(SOON, listener.accept()).await??;
    prepare.signal(Signal::TERM)?;
    assert_eq!(prepare.ended().await?.code(), Some(1), "{}", prepare.lines().join("\n"));
    Ok(())
}

#[tokio::test]
async fn idle_processes_end_after_the_drain() -> Result<()> {
    let model = Model::demo().await?;
    let now = ("CANOPY_DRAIN_SECONDS", "0".to_owned());
    let mut predictor = Server::predictor(&model, std::slice::from_ref(&now)).await?;
    let mut gateway = Server::gateway(predictor.address, &[now]).await?;
    assert_eq!(gateway.post("/api/predict", &row()).await?.status, 200);
    for server in [&mut gateway, &mut predictor] {
        server.process.signal(Signal::TERM)?;
        assert_eq!(server.process.ended().await?.code(), Some(0));
    }
    Ok(())
}
