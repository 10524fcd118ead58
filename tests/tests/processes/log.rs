//! The log of a running process: its filter can be changed at the admin port, and its lines never contain values of features.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::fake_predictor::FakePredictor;
use canopy_tests::http::{Reply, client, send};
use canopy_tests::process::Signal;
use canopy_tests::test_server::{Model, REVISION, Server, row};
use canopy_tests::wait::{SOON, until};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn change(server: &Server, filter: &str) -> Result<Reply> {
    send(client()?.put(format!("http://{}/log", server.admin)).body(filter.to_owned())).await
}

fn predictions(server: &Server) -> Result<usize> {
    Ok(server.process.log()?.iter().filter(|line| line["message"] == "predicted").count())
}

/// Requests a prediction, and waits until all of its log lines are read.
async fn ask(server: &Server) -> Result<()> {
    assert_eq!(server.post("/predict", &row()).await?.status, 200);
    // The line of a change of the filter is written after that of the prediction, if there is one.
    let before = server.process.log()?.len();
    let now = server.admin("/log").await?.text;
    assert_eq!(change(server, &now).await?.status, 200);
    until("the marker", SOON, async || {
        ensure!(server.process.log()?.len() > before, "the line of the change is missing");
        ensure!(
            server.process.log()?.last().is_some_and(|line| line["to"] == now.trim()),
            "the line of the change is not the last one"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_log_filter_can_be_changed_while_the_process_runs() -> Result<()> {
    let model = Model::demo().await?;
    let environment = [("RUST_LOG", "warn".to_owned()), ("CANOPY_LOG_CONTROL", "true".to_owned())];
    let predictor = Server::predictor(&model, &environment).await?;
    assert_eq!(predictor.admin("/log").await?.text, "warn\n");
    ask(&predictor).await?;
    assert_eq!(predictions(&predictor)?, 0);

    let reply = change(&predictor, "warn,canopy_predictor=info\n").await?;
    assert_eq!((reply.status, &*reply.text), (200, "canopy_predictor=info,warn\n"));
    ask(&predictor).await?;
    let heard = predictions(&predictor)?;
    assert_eq!(heard, 1);

    for (filter, part) in [("info,canopy_predictor=loud", "canopy_predictor=loud"), ("a=b=c", "a=b=c")] {
        let reply = change(&predictor, filter).await?;
        assert_eq!((reply.status, reply.header("content-type")), (400, "application/problem+json"));
        let detail = reply.json()?["detail"].as_str().unwrap_or_default().to_owned();
        ensure!(detail.starts_with(&format!("{part:?} is neither a level (off, error, warn")), "{detail}");
    }
    assert_eq!(change(&predictor, &"a".repeat(5000)).await?.status, 413);
    assert_eq!(predictor.admin("/log").await?.text, "canopy_predictor=info,warn\n");
    ask(&predictor).await?;
    assert_eq!(predictions(&predictor)?, heard + 1, "a filter that is none changes nothing");

    assert_eq!(change(&predictor, "").await?.text, "info\n");
    Ok(())
}

#[tokio::test]
async fn the_log_filter_cannot_be_changed_without_log_control() -> Result<()> {
    let model = Model::demo().await?;
    let predictor = Server::predictor(&model, &[]).await?;
    let gateway = Server::gateway(predictor.address, &[]).await?;
    for server in [&predictor, &gateway] {
        let reply = change(server, "debug").await?;
        assert_eq!(reply.status, 403, "{}", reply.text);
        ensure!(reply.text.contains("--log-control or CANOPY_LOG_CONTROL=true"), "{}", reply.text);
        assert_eq!(server.admin("/log").await?.text, "info\n");
    }
    Ok(())
}

/// A value that occurs nowhere else.
const VALUE: &str = "7.6543219";

async fn send_text(server: &Server, path: &str, body: String) -> Result<u16> {
    let request = client()?.post(format!("http://{}{path}", server.address));
    Ok(send(request.header("content-type", "application/json").body(body)).await?.status)
}

/// Bodies that fail in different ways and contain the value.
fn faulty() -> Vec<String> {
    let bodies = [
        "{\"features\":[V,2.0,0.0]}",
        "{\"features\":[V,2.0,0.0,1.0,V]}",
        "{\"features\":[V,2.0,0.0,11V]}",
        "{\"features\":[V,2.0,0.0,\"V\"]}",
        "{\"features\":[V,2.0,0.0,[V]]}",
        "{\"features\":[V,2.0,0.0,{\"V\":V}]}",
        "{\"features\":[V,2.0,0.0,Ve999]}",
        "{\"features\":V}",
        "{\"features\":\"V\"}",
        "{\"V\":[V]}",
        "{\"features\":[V],\"features\":[V]}",
        "{\"features\":[V],\"instances\":[[V]]}",
        "{\"instances\":[V]}",
        "{\"instances\":[[V,1.0,1.0,1.0],[V]]}",
        "{\"instances\":[\"V\"]}",
        "{\"features\":[V,V",
        "{\"features\":[V,2.0,0.0,1.0]}V",
        "{\"features\":[V,2.0,0.0,VV]}",
        "[V]",
        "V",
        "\"V\"",
        "V\u{7f}\u{0}",
    ];
    let mut bodies: Vec<_> = bodies.iter().map(|body| body.replace('V', VALUE)).collect();
    bodies.push(format!("{{\"features\":[{}0.0]}}", format!("{VALUE},").repeat(1000)));
    bodies
}

/// Sends the beginning of a body, and waits for the time-out.
async fn break_off(server: &Server, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(server.address).await?;
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99");
    stream.write_all(format!("{head}\r\n\r\n{{\"features\":[{VALUE},").as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    ensure!(&answer == b"HTTP/1.1 408", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn no_log_line_has_the_value_of_a_feature() -> Result<()> {
    let environment = [
        ("CANOPY_MAX_BODY_BYTES", "5000".to_owned()),
        ("CANOPY_BODY_TIMEOUT", "1s".to_owned()),
        ("CANOPY_UPSTREAM_TIMEOUT", "1s".to_owned()),
    ];
    let model = Model::demo().await?;
    let mut predictor = Server::predictor(&model, &environment[..2]).await?;
    let gateway = Server::gateway(predictor.address, &environment).await?;
    let good = format!("{{\"features\":[{VALUE},2.0,0.0,1.0]}}");
    for (server, paths) in
        [(&gateway, &["/api/predict", "/api/models/demo/predict"][..]), (&predictor, &["/predict"])]
    {
        for path in paths {
            assert_eq!(send_text(server, path, good.clone()).await?, 200);
            for body in faulty() {
                let status = send_text(server, path, body.clone()).await?;
                ensure!((400..500).contains(&status), "{status} for {body}");
            }
            break_off(server, path).await?;
        }
        for path in ["/api/models/nosuch/predict", "/nosuch", "/health"] {
            let status = send_text(server, path, good.clone()).await?;
            ensure!([404, 405].contains(&status), "{status} for {path}");
        }
    }

    // A predictor that hangs, one that returns an error with the value, and none.
    predictor.process.signal(Signal::STOP)?;
    assert_eq!(send_text(&gateway, "/api/predict", good.clone()).await?, 504);
    let lines_of_predictor = predictor.process.log()?;
    predictor.process.kill()?;
    let detail = format!("{{\"detail\":\"features.0: {VALUE} is invalid\"}}");
    let length = detail.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nCanopy-Revision: {REVISION}\r\nContent-Length: {length}\r\n\r\n{detail}"
    );
    let fake = FakePredictor::start(predictor.address, answer.as_bytes()).await?;
    assert_eq!(send_text(&gateway, "/api/predict", good.clone()).await?, 422);
    fake.stop().await;
    assert_eq!(send_text(&gateway, "/api/predict", good.clone()).await?, 503);

    let code = |code: &'static str| move |line: &Value| line["code"] == code;
    gateway.process.log_of("the last failure", 1, code("predictor_unavailable")).await?;
    let lines_of_gateway = gateway.process.log()?;
    for word in
        ["malformed_json", "invalid_features", "body_too_large", "request_timeout", "deadline_exceeded"]
    {
        ensure!(lines_of_gateway.iter().any(code(word)), "the log has no line with the code {word}");
    }
    for line in lines_of_gateway.iter().chain(&lines_of_predictor) {
        let text = line.to_string();
        ensure!(
            !text.contains(VALUE) && !text.contains("7.65432"),
            "expected no value of a feature, got: {text}"
        );
    }
    ensure!(lines_of_predictor.len() > faulty().len(), "{lines_of_predictor:?}");
    lines_of_predictor.iter().find(|line| line["code"] == "invalid_features").context("a refusal").map(drop)
}
