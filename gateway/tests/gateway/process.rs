//! The gateway as a process: errors at start, log lines, and shutdown.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};

use crate::cluster::Cluster;
use crate::fake_predictor::{Behavior, FakePredictor};
use crate::recording::count;

const PROGRAM: &str = env!("CARGO_BIN_EXE_canopy-gateway");

fn command(arguments: &[&str]) -> Command {
    configured(Command::new(PROGRAM), arguments)
}

fn configured(mut command: Command, arguments: &[&str]) -> Command {
    let free = "127.0.0.1:0";
    command.env("CANOPY_LISTEN", free).env("CANOPY_ADMIN", free).env("CANOPY_DRAIN_SECONDS", "0");
    command
        .args(arguments)
        .env("CANOPY_LOG_FORMAT", "json")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

/// The exit code and output of a gateway that fails to start.
async fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let output = in_time(command(arguments).stderr(Stdio::piped()).output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A running gateway and its addresses.
struct GatewayProcess {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl GatewayProcess {
    async fn start(arguments: &[&str]) -> Self {
        Self::of(command(arguments)).await
    }

    async fn of(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = next_line(&mut log).await;
        assert_eq!(line["message"], "starting", "{line}");
        let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
        Self { child, log, address: address("address"), admin: address("admin") }
    }
}

async fn next_line(log: &mut Lines<BufReader<ChildStderr>>) -> Value {
    let line = in_time(log.next_line()).await.unwrap().unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
}

/// Sends `request`, which must close the connection, and returns the response.
async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn invalid_flags_are_reported_with_the_expected_format() {
    let (code, words) = fails(&["--predictors", "demo"]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("\"demo\" must be MODEL=http://HOST:PORT"), "{words}");
    let (code, words) = fails(&["--upstream-timeout", "soon"]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("as in 30s"), "{words}");
    let (code, words) = fails(&["--predictors", "Demo=http://127.0.0.1:1"]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("invalid model in CANOPY_PREDICTORS"), "{words}");
    let (code, words) = fails(&["--cluster-domain", "cluster..local"]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("is no DNS name; set CANOPY_CLUSTER_DOMAIN"), "{words}");
    let (code, words) = fails(&["--dns-server", "10.96.0.10"]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("--dns-server"), "{words}");
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_the_flag_to_change() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = holder.local_addr().unwrap();
    for (flag, variable) in [("--listen", "CANOPY_LISTEN"), ("--admin", "CANOPY_ADMIN")] {
        let (code, words) = fails(&[flag, &taken.to_string()]).await;
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(&format!("failed to listen on {taken}: ")), "{words}");
        assert!(words.contains(&format!("choose another address with {flag} or {variable}")), "{words}");
    }
}

#[tokio::test]
async fn a_gateway_becomes_ready_serves_and_exits_with_0_on_sigterm() {
    let GatewayProcess { mut child, log: _log, address, admin } = GatewayProcess::start(&[]).await;
    in_time(async {
        while !get(admin, "/ready").await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(get(address, "/api/test").await.starts_with("HTTP/1.1 200 "));
    let metrics = get(admin, "/metrics").await;
    for series in [
        "canopy_build_info{process=\"canopy-gateway\"",
        "canopy_gateway_requests_in_flight 0\n",
        "process_open_fds ",
    ] {
        assert!(metrics.contains(series), "{series} is missing in {metrics}");
    }
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(in_time(child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn an_unread_log_blocks_no_request_and_dropped_lines_are_counted() {
    let mut command = command(&["--workers", "1"]);
    // Dozens of lines per request fill the pipe and the queue quickly.
    command.env("RUST_LOG", "info,h2=trace");
    let GatewayProcess { child, mut log, address, admin } = GatewayProcess::of(command).await;
    let dropped = async || {
        let metrics = get(admin, "/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix("canopy_log_lines_dropped_total "));
        value.unwrap().parse::<u64>().unwrap()
    };
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    while dropped().await == 0 {
        for _ in 0..50 {
            let request = http::Request::get("http://gateway/api/test").body(Empty::<&[u8]>::new()).unwrap();
            assert_eq!(in_time(client.send_request(request)).await.unwrap().status(), 200);
        }
    }
    connection.abort();
    let lost = in_time(async {
        loop {
            let line = next_line(&mut log).await;
            if line["message"].as_str().unwrap_or_default().starts_with("lines of the log were dropped") {
                break line["dropped"].as_u64().unwrap();
            }
        }
    })
    .await;
    assert!(lost > 0 && lost <= dropped().await, "{lost}");
    drop(child);
}

#[tokio::test]
async fn a_gateway_without_descriptors_recovers_when_clients_disconnect() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 64; exec "$0" "$@""#, PROGRAM]);
    let GatewayProcess { child, mut log, address, .. } =
        GatewayProcess::of(configured(shell, &["--max-connections", "1000"])).await;
    let mut many = Vec::new();
    for _ in 0..100 {
        // The kernel accepts connections into the backlog.
        many.push(in_time(TcpStream::connect(address)).await.unwrap());
    }
    while next_line(&mut log).await["message"] != "failed to accept a connection" {}
    drop(many);
    assert!(get(address, "/api/test").await.starts_with("HTTP/1.1 200 "));
    drop(child);
}

#[tokio::test]
async fn by_default_a_flood_of_connections_leaves_descriptors_for_probes() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 200; exec "$0" "$@""#, PROGRAM]);
    let GatewayProcess { child, mut log, address, admin } = GatewayProcess::of(configured(shell, &[])).await;
    let mut many = Vec::new();
    for _ in 0..300 {
        many.push(in_time(TcpStream::connect(address)).await.unwrap());
    }
    let line = next_line(&mut log).await;
    assert!(line["message"].as_str().unwrap().starts_with("refused a connection"), "{line}");
    assert!(get(admin, "/live").await.starts_with("HTTP/1.1 200 "));
    let metrics = get(admin, "/metrics").await;
    assert!(!metrics.contains("canopy_connections_refused_total 0\n"), "{metrics}");
    drop((child, many));
}

#[tokio::test]
async fn a_gateway_that_cannot_open_sockets_reports_it_and_recovers() {
    let predictor = FakePredictor::of("demo").await;
    let predictors = format!("demo=http://{}", predictor.address);
    let GatewayProcess { child, log: _log, address, admin } =
        GatewayProcess::start(&["--predictors", &predictors]).await;
    let mut client = BufReader::new(TcpStream::connect(address).await.unwrap());
    assert!(predict_on(&mut client).await.contains("\"class\":1"));
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    // All descriptors below 3 are in use, so none can be opened.
    let before = getrlimit(Resource::Nofile);
    prlimit(Some(id), Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    predictor.close_connections().await;
    let refused = predict_on(&mut client).await;
    assert!(refused.contains("\"code\":\"out_of_sockets\""), "{refused}");
    prlimit(Some(id), Resource::Nofile, before).unwrap();
    assert!(predict_on(&mut client).await.contains("\"class\":1"));
    let metrics = get(admin, "/metrics").await;
    let counted = r#"outcome="out_of_sockets",version="1.0"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn each_worker_has_its_own_connection_to_a_predictor_and_they_share_its_description() {
    let predictor = FakePredictor::of("demo").await;
    let flags = ["--workers", "2", "--predictors", &format!("demo=http://{}", predictor.address)];
    let GatewayProcess { child, log: _log, address, .. } = GatewayProcess::start(&flags).await;
    // A new connection goes to the worker with the fewest, so each worker has one of these.
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(BufReader::new(TcpStream::connect(address).await.unwrap()));
        assert!(predict_on(clients.last_mut().unwrap()).await.contains("\"class\":1"));
    }
    for _ in 0..5 {
        for client in &mut clients {
            assert!(predict_on(client).await.contains("\"class\":1"));
        }
    }
    assert_eq!((predictor.predictions(), predictor.connections(), predictor.descriptions()), (12, 2, 1));
    drop(child);
}

#[tokio::test]
async fn the_last_predictions_are_recorded_before_the_process_exits() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("canopy.db").display());
    let predictor = FakePredictor::of("demo").await;
    let predictors = format!("demo=http://{}", predictor.address);
    let flags = ["--predictors", &predictors, "--database-url", &url];
    let GatewayProcess { mut child, log: _log, address, .. } = GatewayProcess::start(&flags).await;
    let row = r#"{"features":[1,2,0,0]}"#;
    for _ in 0..3 {
        assert!(predict(address, row).await.starts_with("HTTP/1.1 200 "));
    }
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(in_time(child.wait()).await.unwrap().code(), Some(0));
    let database = Box::pin(sea_orm::Database::connect(&url)).await.unwrap();
    assert_eq!(count(&database, "predictions").await, 3);
}

#[tokio::test]
async fn passwords_are_not_logged_at_any_level() {
    let mut command = command(&["--database-url", "postgres://canopy:s3cret@127.0.0.1:1/canopy"]);
    let mut child = command.env("RUST_LOG", "trace").stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = in_time(log.next_line()).await.unwrap().unwrap();
        assert!(!line.contains("s3cret"), "{line}");
        if line.contains("failed to prepare the database") {
            assert!(line.contains("no connection to the database is available"), "{line}");
            break;
        }
    }
}

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

async fn predict(address: SocketAddr, body: &str) -> String {
    let request = format!(
        "POST /api/predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\
         traceparent: 00-{TRACE_ID}-b7ad6b7169203331-00\r\n\r\n{body}",
        body.len()
    );
    send(address, &request).await
}

/// Sends a row on a connection that stays open, and returns the body of the response.
async fn predict_on(client: &mut BufReader<TcpStream>) -> String {
    let body = r#"{"features":[1,2,0,0]}"#;
    let request = format!(
        "POST /api/predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        in_time(client.read_line(&mut line)).await.unwrap();
        match line.trim_end().split_once(": ") {
            Some(("content-length", number)) => length = number.parse().unwrap(),
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut answer = vec![0; length];
    in_time(client.read_exact(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Checks the given fields of a log line, and those that every line about a request has.
#[track_caller]
fn check(line: &Value, expected: &Value) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {line}");
    }
    assert_eq!(line["trace_id"], TRACE_ID, "{line}");
    // The same fields as in the predictor's log, so that one search finds both.
    assert_eq!((&line["model"], &line["namespace"]), (&json!("demo"), &json!("default")), "{line}");
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
    // A part of the features sent below.
    assert!(!line.to_string().contains("1.23456"), "feature values in {line}");
}

#[tokio::test]
async fn each_prediction_and_each_failure_has_one_log_line_with_its_fields() {
    let predictor = FakePredictor::of("demo").await;
    let url = format!("http://{}", predictor.address);
    let GatewayProcess { child: _child, mut log, address, .. } =
        GatewayProcess::start(&["--predictors", &format!("demo={url}")]).await;

    assert!(predict(address, r#"{"features":[1.23456,2,0,0]}"#).await.starts_with("HTTP/1.1 200 "));
    let call = json!({"level": "INFO", "version": "1.0", "endpoint": url});
    check(&next_line(&mut log).await, &call);
    let predicted = next_line(&mut log).await;
    check(&predicted, &call);
    let answer = json!({"features_count": 4, "rows": 1, "prediction": 1, "confidence": 0.87, "code": "ok"});
    check(&predicted, &answer);

    assert!(predict(address, r#"{"features":[0,0,0,11.23456]}"#).await.starts_with("HTTP/1.1 422 "));
    let refused = "rejected: faults at features.3";
    check(
        &next_line(&mut log).await,
        &json!({"level": "INFO", "code": "invalid_features", "message": refused}),
    );

    predictor.set_predict_behavior(Behavior::Answer(500, r#"{"detail":"Model error"}"#.into()));
    assert!(predict(address, r#"{"features":[1.23456,2,0,0]}"#).await.starts_with("HTTP/1.1 503 "));
    let cause = format!("{url}/predict: status 500 Internal Server Error: Model error");
    let failed = json!({"level": "WARN", "code": "predictor_failed", "endpoint": url, "cause": cause});
    check(&next_line(&mut log).await, &failed);
}

#[tokio::test]
async fn a_change_of_endpoints_has_one_log_line_with_the_model() {
    let cluster = Cluster::new().await;
    cluster.ready("demo", &[]);
    let server = cluster.dns.address.to_string();
    let GatewayProcess { child: _child, mut log, address, .. } =
        GatewayProcess::start(&["--cluster-domain", "cluster.test", "--dns-server", &server]).await;
    assert!(predict(address, r#"{"features":[1,2,0,0]}"#).await.starts_with("HTTP/1.1 503 "));
    assert_eq!(next_line(&mut log).await["code"], "not_ready");
    cluster.ready("demo", &[1]);
    let line = next_line(&mut log).await;
    let expected = json!({"message": "the endpoints changed", "model": "demo", "namespace": "default"});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {line}");
    }
    assert_eq!((&line["before"], &line["endpoints"]), (&json!(0), &json!(1)), "{line}");
}
