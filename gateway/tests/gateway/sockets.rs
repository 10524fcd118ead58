//! The gateway on a socket: slow bodies, disconnecting clients, and shutdown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use canopy_gateway::serve::{self, Process};
use canopy_gateway::settings::Settings;
use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::shutdown::Shutdown;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::fake_predictor::{Behavior, FakePredictor};
use crate::gateway::{ROW, settings};

/// The memory for request bodies.
const MEMORY: usize = 8 << 20;

struct RunningGateway {
    address: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), String>>,
}

async fn serve(settings: Settings) -> RunningGateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::new();
    let shutdown = Shutdown::new(readiness.clone());
    let registry = canopy_runtime::metrics::registry("gateway").unwrap();
    let ended = tokio::spawn({
        let (readiness, shutdown, registry) = (readiness.clone(), shutdown.clone(), registry.clone());
        async move {
            let workers = Workers::here();
            let process = Process { workers, registry, readiness, shutdown };
            serve::run(&settings, listener, process).await.map_err(|e| e.to_string())
        }
    });
    RunningGateway { address, registry, readiness, shutdown, ended }
}

/// How many bytes of bodies are held.
fn held(registry: &Registry) -> usize {
    let text = canopy_runtime::metrics::encode(registry).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix("canopy_request_body_bytes "));
    value.unwrap().parse().unwrap()
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap()
}

/// Reads until the connection is closed.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    in_time(stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

fn request(body: &str) -> String {
    format!(
        "POST /api/predict HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_slow_body_times_out_and_one_in_small_chunks_is_accepted() {
    let predictor = FakePredictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    settings.body_timeout = Duration::from_millis(500);
    let running = serve(settings).await;
    let whole = request(ROW);

    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(&whole.as_bytes()[..whole.len() - 1]).await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\"") && answer.contains("within 500ms"), "{answer}");
    assert_eq!(predictor.predictions(), 0);

    // Each chunk is a frame of its own, however the bytes arrive.
    let head =
        "POST /api/predict HTTP/1.1\r\nhost: g\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = |piece: &[u8]| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
    let pieces: String = ROW.as_bytes().chunks(3).map(chunk).collect();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{head}{pieces}0\r\n\r\n").as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"class\":1"), "{answer}");
}

#[tokio::test]
async fn the_time_limit_of_a_body_is_not_extended_by_further_pieces() {
    let predictor = FakePredictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    settings.body_timeout = Duration::from_millis(200);
    let running = serve(settings).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream
        .write_all(b"POST /api/predict HTTP/1.1\r\nhost: g\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    // Pieces arrive without end, each long before the limit, which must not extend it.
    let mut answer = [0; 13];
    in_time(async {
        while tokio::time::timeout(Duration::from_millis(10), stream.read_exact(&mut answer)).await.is_err() {
            stream.write_all(b" ").await.unwrap();
        }
    })
    .await;
    assert_eq!(&answer, b"HTTP/1.1 408 ");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_before_its_body() {
    let predictor = FakePredictor::of("demo").await;
    let running = serve(settings(&[("demo", &predictor)])).await;
    let whole = request(ROW).replacen("\r\n", "\r\nexpect: 100-continue\r\n", 1);
    let (head, body) = whole.split_at(whole.len() - ROW.len());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    in_time(stream.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let response = rest(&mut stream).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("\"class\":1"), "{response}");
}

#[tokio::test]
async fn truncated_bodies_and_wrong_lengths_are_rejected() {
    let predictor = FakePredictor::of("demo").await;
    let running = serve(settings(&[("demo", &predictor)])).await;
    for (bytes, status) in [
        ("POST /api/predict HTTP/1.1\r\nhost: g\r\ncontent-length: 1000\r\n\r\n{\"features\":[1", "400"),
        ("POST /api/predict HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n{", "400"),
        ("POST /api/predict HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{", "400"),
        ("POST /api/predict HTTP/1.1\r\nhost: g\r\ncontent-length: 99999999999\r\n\r\n", "413"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {answer:?}");
    }
    assert_eq!(predictor.predictions(), 0);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request(ROW).as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_request_whose_client_disconnects_is_counted_as_such() {
    let predictor = FakePredictor::of("demo").await;
    predictor.set_predict_behavior(Behavior::Hang);
    let running = serve(settings(&[("demo", &predictor)])).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request(ROW).as_bytes()).await.unwrap();
    in_time(async {
        while predictor.predictions() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(stream);
    let metrics = || canopy_runtime::metrics::encode(&running.registry).unwrap();
    in_time(async {
        while !metrics().contains("reason=\"client_closed\"") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let counted = r#"canopy_gateway_requests_total{code="499",model="demo",model_namespace="default",reason="client_closed",version="1.0"} 1"#;
    assert!(metrics().contains(counted), "{}", metrics());
    assert!(metrics().contains("canopy_gateway_requests_in_flight 0\n"), "{}", metrics());
}

#[tokio::test]
async fn streams_with_unfinished_bodies_leave_memory_for_others() {
    let predictor = FakePredictor::of("demo").await;
    let mut settings = settings(&[("demo", &predictor)]);
    settings.body_memory_bytes = Some(MEMORY);
    let running = serve(settings).await;
    let io = TokioIo::new(TcpStream::connect(running.address).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        // One mebibyte, then nothing: the body never ends.
        let pieces = (0..64).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 1 << 14]))));
        let body = StreamBody::new(stream::iter(pieces).chain(stream::pending()));
        let request = http::Request::post("http://gateway/api/predict").body(BodyExt::boxed(body)).unwrap();
        let mut client = client.clone();
        requests.spawn(async move { client.send_request(request).await.map(|answer| answer.status()) });
    }
    // Some are refused, which frees their memory for others.
    let refused = in_time(requests.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(refused, 503);
    assert!(held(&running.registry) <= MEMORY, "{}", held(&running.registry));
    for _ in 0..10 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(request(ROW).as_bytes()).await.unwrap();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"), "a small request has room");
        assert!(held(&running.registry) <= MEMORY, "{}", held(&running.registry));
    }
    connection.abort();
    drop((requests, client));
    in_time(async {
        while held(&running.registry) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn accepted_requests_are_answered_during_shutdown() {
    let predictor = FakePredictor::of("demo").await;
    predictor.set_predict_behavior(Behavior::Slow(Duration::from_millis(300)));
    let mut settings = settings(&[("demo", &predictor)]);
    settings.drain_seconds = 0;
    let running = serve(settings).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request(ROW).as_bytes()).await.unwrap();
    in_time(async {
        while predictor.predictions() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(running.readiness.check(), Ok(()));
    running.shutdown.trigger();
    assert_eq!(running.readiness.check(), Err("shutting down".to_owned()));
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    in_time(running.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_gateway_whose_database_cannot_be_opened_is_never_ready_and_returns_the_error() {
    let mut settings = settings(&[]);
    settings.database_url = Some("sqlite:///nowhere/canopy.db".to_owned());
    let running = serve(settings).await;
    let error = in_time(running.ended).await.unwrap().unwrap_err();
    assert!(error.starts_with("failed to open database sqlite:///nowhere/canopy.db"), "{error}");
    assert_eq!(running.readiness.check(), Err("gateway: opening the database".to_owned()));
}
