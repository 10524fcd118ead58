//! Draining and shutdown of a server, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::connections::Connections;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::server::{ServeOptions, Timing, serve};
use canopy_runtime::shutdown::Shutdown;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: std::net::SocketAddr,
    shutdown: Shutdown,
    readiness: Readiness,
    /// Requests to `/slow` that have begun.
    begun: watch::Receiver<usize>,
    /// Set to let them end.
    release: watch::Sender<bool>,
    served: JoinHandle<()>,
}

async fn panics() -> StatusCode {
    panic!("on purpose")
}

async fn start(drain: Duration, grace: Duration) -> Running {
    let readiness = Readiness::new();
    let shutdown = Shutdown::new(readiness.clone());
    let (count, begun) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let slow = move || {
        let (count, mut released) = (count.clone(), released.clone());
        async move {
            count.send_modify(|count| *count += 1);
            drop(released.wait_for(|released| *released).await);
            "slow"
        }
    };
    let router = Router::new()
        .route("/fast", get(|| async { "fast" }))
        .route("/slow", get(slow))
        .route("/panic", get(panics));
    let on_panic = || -> Response { (StatusCode::INTERNAL_SERVER_ERROR, "panicked").into_response() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = ServeOptions {
        workers: Workers::here(),
        connections: Connections::new(100, &Registry::new()),
        timing: Timing::default(),
        drain,
        grace,
        on_panic,
        hosts: AllowedHosts::Any,
        on_wrong_host: || StatusCode::MISDIRECTED_REQUEST.into_response(),
        tells_peer: false,
    };
    let served = tokio::spawn(serve(listener, router, options, shutdown.clone()));
    Running { address, shutdown, readiness, begun, release, served }
}

async fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads until `done`, or until the connection has ended.
async fn read_until(stream: &mut TcpStream, done: impl Fn(&str) -> bool) -> String {
    let (mut text, mut chunk) = (String::new(), [0; 1024]);
    while !done(&text) {
        let read = timeout(PATIENCE, stream.read(&mut chunk)).await.unwrap().unwrap();
        if read == 0 {
            break;
        }
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    text
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    read_until(stream, |_| false).await
}

#[tokio::test]
async fn while_draining_connections_are_accepted_and_clients_get_connection_close() {
    let server = start(Duration::from_secs(2), PATIENCE).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    ask(&mut kept, "/fast").await;
    let answer = read_until(&mut kept, |text| text.ends_with("fast")).await;
    assert!(!answer.contains("connection: close"), "{answer}");

    server.shutdown.trigger();
    assert_eq!(server.readiness.check(), Err("shutting down".to_owned()));
    // An idle connection is not closed under its client; a new one is still accepted. Both hear it is the last.
    let mut new = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut kept, &mut new] {
        ask(stream, "/fast").await;
        let answer = read_to_end(stream).await;
        assert!(answer.contains("connection: close") && answer.ends_with("fast"), "{answer}");
    }
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_listener_is_closed() {
    let mut server = start(Duration::ZERO, PATIENCE).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/slow").await;
    server.begun.wait_for(|&begun| begun == 1).await.unwrap();
    server.shutdown.trigger();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.release.send(true).unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("slow"));
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_delays_shutdown_by_the_grace_period_at_most() {
    let mut server = start(Duration::ZERO, Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/slow").await;
    server.begun.wait_for(|&begun| begun == 1).await.unwrap();
    server.shutdown.trigger();
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_gets_an_error_response_and_the_connection_stays_open() {
    let server = start(Duration::ZERO, PATIENCE).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/panic").await;
    assert!(read_until(&mut stream, |text| text.ends_with("panicked")).await.starts_with("HTTP/1.1 500"));
    ask(&mut stream, "/fast").await;
    assert!(read_until(&mut stream, |text| text.ends_with("fast")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn http2_clients_get_goaway_at_once_and_their_requests_are_answered() {
    let mut server = start(Duration::from_secs(2), PATIENCE).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request =
        |path| Request::get(format!("http://{}{path}", server.address)).body(Empty::<&[u8]>::new()).unwrap();
    let answer = tokio::spawn(client.send_request(request("/slow")));
    server.begun.wait_for(|&begun| begun == 1).await.unwrap();

    server.shutdown.trigger();
    timeout(PATIENCE, async { while client.send_request(request("/fast")).await.is_ok() {} })
        .await
        .expect("the client was never told to go away");
    server.release.send(true).unwrap();
    let body: Response<Body> = answer.await.unwrap().unwrap().map(Body::new);
    assert_eq!(body.into_body().collect().await.unwrap().to_bytes(), "slow");
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
}
