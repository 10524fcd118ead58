//! Predictors that are killed, hang or respond with garbage: the gateway returns an error in time, and recovers by itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use canopy_tests::fake_predictor::FakePredictor;
use canopy_tests::http::Reply;
use canopy_tests::process::Signal;
use canopy_tests::test_server::{Model, REVISION, Server, row};
use canopy_tests::wait::{SOON, until};

/// Seconds that the gateway waits for a predictor in these tests.
const UPSTREAM_TIMEOUT: u64 = 1;
/// The longest time for a response of the gateway, also on a busy machine.
const IN_TIME: Duration = Duration::from_secs(UPSTREAM_TIMEOUT + 2);

async fn line() -> Result<(Model, Server, Server)> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    let timeout = ("CANOPY_UPSTREAM_TIMEOUT", UPSTREAM_TIMEOUT.to_string());
    let gateway = Server::gateway(predictor.address, &[timeout]).await?;
    recovers(&gateway).await?;
    Ok((model, predictor, gateway))
}

async fn recovers(gateway: &Server) -> Result<()> {
    let answer = until("a prediction", SOON, async || {
        let reply = gateway.post("/api/predict", &row()).await?;
        ensure!(reply.status == 200, "{} {}", reply.status, reply.text);
        reply.json()
    });
    assert_eq!(answer.await?["prediction"]["class"], 1);
    Ok(())
}

/// Sends one request, and expects this error in time.
async fn fails(gateway: &Server, status: u16, code: &str) -> Result<Reply> {
    let start = Instant::now();
    let reply = gateway.post("/api/predict", &row()).await?;
    let took = start.elapsed();
    assert!(took < IN_TIME, "the answer took {took:?}");
    assert_eq!((reply.status, reply.json()?["code"].as_str()), (status, Some(code)), "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    Ok(reply)
}

#[tokio::test]
async fn a_killed_predictor_causes_503_until_it_is_back() -> Result<()> {
    let (model, mut predictor, gateway) = line().await?;
    predictor.process.kill()?;
    for _ in 0..5 {
        let reply = fails(&gateway, 503, "predictor_unavailable").await?;
        assert!(reply.header("retry-after").parse::<u64>().is_ok(), "{:?}", reply.headers);
        assert_eq!(reply.json()?["error"], "AI service unavailable");
    }
    assert_eq!(
        gateway.admin("/ready").await?.status,
        200,
        "the gateway must stay ready when a predictor is gone"
    );
    let _again = Server::predictor_at(predictor.address, &model, &[]).await?;
    recovers(&gateway).await
}

#[tokio::test]
async fn a_hanging_predictor_causes_504_until_it_continues() -> Result<()> {
    let (_model, predictor, gateway) = line().await?;
    predictor.process.signal(Signal::STOP)?;
    for _ in 0..2 {
        fails(&gateway, 504, "deadline_exceeded").await?;
    }
    predictor.process.signal(Signal::CONT)?;
    recovers(&gateway).await
}

#[tokio::test]
async fn a_predictor_that_responds_with_garbage_causes_503_until_it_recovers() -> Result<()> {
    let answer = |status: &str, body: &str| {
        let headers = format!("Content-Type: application/json\r\nCanopy-Revision: {REVISION}");
        format!("HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let lies = [
        String::new(),
        "\0\x16\x03 no HTTP at all".to_owned(),
        answer("200 OK", "no JSON"),
        answer("200 OK", "{}"),
        answer("200 OK", r#"{"predictions":[]}"#),
        answer("200 OK", r#"{"prediction":1,"confidence":"high"}"#),
        answer("200 OK", r#"{"prediction":1,"confidence":87}"#),
        answer("200 OK", r#"{"prediction":999,"confidence":0.87}"#),
        answer("200 OK", r#"{"prediction":1,"confidence":0.87}"#).replace(REVISION, "another revision"),
        answer("200 OK", r#"{"prediction":1,"confidence":0.87}"#)
            .replace("Content-Length: 3", "Content-Length: 30"),
        answer("302 Found", "").replace("Content-Type", "Location: http://127.0.0.1:1/\r\nContent-Type"),
        answer("500 Internal Server Error", r#"{"detail":"Model error"}"#),
    ];
    let (model, mut predictor, gateway) = line().await?;
    for lie in lies {
        predictor.process.kill()?;
        let fake = FakePredictor::start(predictor.address, lie.as_bytes()).await?;
        let reply = fails(&gateway, 503, "predictor_failed").await?;
        let told = format!("{} for {lie:?}", reply.text);
        assert!(fake.connections() > 0, "no connection to the fake predictor: {told}");
        assert!(reply.header("retry-after").parse::<u64>().is_ok(), "{told}");
        fake.stop().await;
        predictor = Server::predictor_at(predictor.address, &model, &[]).await?;
        recovers(&gateway).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_predictor_serves_once_the_predictor_is_ready() -> Result<()> {
    let model = Model::demo().await?;
    let address = canopy_tests::process::free_address()?;
    let gateway =
        Server::gateway(address, &[("CANOPY_UPSTREAM_TIMEOUT", UPSTREAM_TIMEOUT.to_string())]).await?;
    fails(&gateway, 503, "predictor_unavailable").await?;
    let _predictor = Server::predictor_at(address, &model, &[]).await?;
    recovers(&gateway).await
}
