//! Connections over real sockets: those that send nothing, too slowly, too much, or are too many.
//!
//! Limits are given to the server, so that each test waits for what must happen and for no fixed time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use canopy_runtime::admin::{self, LogControl};
use canopy_runtime::metrics::Registry;
use canopy_runtime::readiness::Readiness;
use canopy_runtime::server::connections::Connections;
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::workers::Workers;
use canopy_runtime::server::{ServeOptions, Timing, serve};
use canopy_runtime::shutdown::Shutdown;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(50);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// No limit is ever reached.
const NO_LIMIT: Timing = Timing { first_byte: NEVER, preface: NEVER, interval: NEVER, idle_intervals: 5 };

/// More than the buffers of both sides of a connection hold.
const LONG: usize = 32 << 20;

struct Running {
    address: SocketAddr,
    registry: Registry,
}

async fn start(timing: Timing, max: usize) -> Running {
    let router = Router::new()
        .route("/fast", get(|| async { "fast" }))
        .route("/long", get(|| async { vec![b'x'; LONG] }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/refuse", post(|| async { (StatusCode::PAYLOAD_TOO_LARGE, "too large") }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, registry) = (listener.local_addr().unwrap(), Registry::new());
    let options = ServeOptions {
        workers: Workers::here(),
        connections: Connections::new(max, &registry),
        timing,
        drain: Duration::ZERO,
        grace: PATIENCE,
        on_panic: || -> Response { StatusCode::INTERNAL_SERVER_ERROR.into_response() },
        hosts: AllowedHosts::of_listener(address, &["test".to_owned(), "t".to_owned()]),
        on_wrong_host: || StatusCode::MISDIRECTED_REQUEST.into_response(),
        tells_peer: true,
    };
    tokio::spawn(serve(listener, router, options, Shutdown::new(Readiness::new())));
    Running { address, registry }
}

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap()
}

/// Sends `bytes` and returns all that comes until the server ends the connection.
async fn ended(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let _ = in_time(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until what has come contains `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let read = in_time(stream.read_buf(&mut text)).await.unwrap();
        assert!(read > 0, "ended after {:?}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_connection_without_a_first_byte_or_with_half_a_preface_is_closed() {
    let silent = start(Timing { first_byte: SOON, ..NO_LIMIT }, 100).await;
    assert_eq!(ended(silent.address, b"").await, "");
    let half = start(Timing { preface: SOON, ..NO_LIMIT }, 100).await;
    for bytes in [&b"P"[..], b"PRI * HTTP", &PREFACE[..23]] {
        assert_eq!(ended(half.address, bytes).await, "", "{bytes:?}");
    }
    assert_eq!(half.registry.connections().open.get(), 0);
}

#[tokio::test]
async fn a_slow_request_head_gets_408_and_an_idle_connection_is_closed() {
    let server = start(Timing { interval: SOON, idle_intervals: 2, ..NO_LIMIT }, 100).await;
    for bytes in ["G", "GET /fast HTTP/1.1\r\nhost: test\r\n", "PRINT / HTTP/1.1\r\n"] {
        let answer = ended(server.address, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{bytes:?}: {answer}");
    }
    // A line break after a request does not begin another one.
    for after in ["", "\r\n"] {
        let request = format!("GET /fast HTTP/1.1\r\nhost: test\r\n\r\n{after}");
        let answer = ended(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fast"), "{after:?}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_whose_response_is_not_read_is_closed_over_both_protocols() {
    let server = start(Timing { interval: SOON, idle_intervals: 1_000_000, ..NO_LIMIT }, 100).await;
    let open = || server.registry.connections().open.get();
    let until_closed = async || {
        in_time(async {
            while open() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let mut unread = TcpStream::connect(server.address).await.unwrap();
    unread.write_all(b"GET /long HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    in_time(unread.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    until_closed().await;

    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.initial_stream_window_size(1024).handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://test/long").body(Full::<&[u8]>::default()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    until_closed().await;
    drop(answer);
    // It ended with an error, since the answer was cut.
    let _ = in_time(connection).await.unwrap();

    // One that is read is whole.
    let read = ended(server.address, b"GET /long HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await;
    assert_eq!(read.matches('x').count(), LONG);
}

#[tokio::test]
async fn an_idle_http2_connection_gets_goaway_and_one_that_sends_nothing_after_the_preface_is_closed() {
    let server = start(Timing { interval: SOON, idle_intervals: 2, ..NO_LIMIT }, 100).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://test/fast").body(Full::<&[u8]>::default()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), StatusCode::OK);
    in_time(connection).await.unwrap().unwrap();

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut rest = Vec::new();
    let _ = in_time(stream.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP/1"), "{rest:?}");
}

#[tokio::test]
async fn a_request_is_answered_whatever_bytes_follow_it() {
    let server = start(NO_LIMIT, 100).await;
    let post = "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody";
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for after in ["\r\n", "GET /fast HTT"] {
        stream.write_all(format!("{post}{after}").as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\nbody").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{after:?}: {answer}");
    }
    stream.write_all(b"P/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    assert!(read_until(&mut stream, "fast").await.starts_with("HTTP/1.1 200 "), "the second half");

    let closing = "POST /echo HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody\r\n";
    let old = "POST /echo HTTP/1.0\r\ncontent-length: 4\r\n\r\nbody\r\n";
    for request in [closing, old] {
        let answer = ended(server.address, request.as_bytes()).await;
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with("\r\n\r\nbody"), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_gets_its_status() {
    let server = start(NO_LIMIT, 100).await;
    let long = |count: usize| "x".repeat(count);
    let many = (0..101).map(|index| format!("h{index}: v\r\n")).collect::<Vec<_>>().concat();
    for (request, statuses) in [
        // The bytes after the body are parsed as the next request.
        (
            "POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nbody{\"rest\":1}\r\n\r\n".to_owned(),
            &["200", "400"][..],
        ),
        (format!("GET /fast HTTP/1.1\r\n{many}\r\n"), &["431"]),
        (format!("GET /fast HTTP/1.1\r\nh: {}\r\n\r\n", long(500_000)), &["431"]),
        (format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", long(100_000)), &["414"]),
        (format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", long(20_000)), &["414"]),
        ("GET /fast HTTP/9.9\r\n\r\n".to_owned(), &["400"]),
    ] {
        let answer = ended(server.address, request.as_bytes()).await;
        let found: Vec<_> =
            answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
        assert_eq!(found, statuses, "{}: {answer}", &request[..request.len().min(60)]);
    }
    // A request line that is long and within the limit is served.
    let request = format!("GET /fast?{} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n", long(10_000));
    assert!(ended(server.address, request.as_bytes()).await.ends_with("fast"));
}

/// A client that writes its whole request before it reads, as many do.
const CLIENT: &str = "
import http.client, sys
for path, status in (('/refuse', 413), ('/unknown', 404), ('/fast', 405)):
    for length in (1 << 10, 4 << 20, 20 << 20):
        connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=20)
        connection.request('POST', path, body=b'x' * length)
        answer = connection.getresponse()
        assert answer.status == status, (path, length, answer.status)
        answer.read()
        connection.close()
print('all answered')
";

#[tokio::test]
async fn a_client_that_sends_its_whole_body_before_it_reads_gets_an_early_response() {
    let server = start(NO_LIMIT, 100).await;
    let mut client = Command::new("python3");
    client.args(["-c", CLIENT, &server.address.port().to_string()]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("all answered"), "{said}");
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_a_limit() {
    let server = start(NO_LIMIT, 100).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /refuse HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n", &vec![b'x'; 0x1_0000][..], b"\r\n"].concat();
    let mut sent = 0;
    in_time(async {
        while stream.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
    })
    .await;
    assert!(sent > 4 << 20, "only {sent} bytes were taken");
}

#[tokio::test]
async fn an_early_response_over_http2_does_not_reset_the_stream() {
    let server = start(NO_LIMIT, 100).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/refuse", 413), ("/unknown", 404), ("/fast", 405)] {
        let pieces = (0..(4 << 20) / 0x4000).map(|_| Ok::<_, hyper::Error>(Frame::data(&[b'x'; 0x4000][..])));
        let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
        let request = Request::builder().method(Method::POST).uri(format!("http://test{path}"));
        let answer = in_time(client.send_request(request.body(body).unwrap())).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        in_time(answer.map(Body::new).into_body().collect()).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_above_the_limit_gets_an_error_and_is_counted() {
    // Three quarters of four: all come from one address.
    let server = start(NO_LIMIT, 4).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /fast HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
        read_until(&mut stream, "fast").await;
        kept.push(stream);
    }
    let answer = ended(server.address, b"GET /fast HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with("too many connections; try again later\r\n"), "{answer}");
    assert_eq!(ended(server.address, PREFACE).await, "", "no HTTP/1 for a client of HTTP/2");
    assert_eq!(server.registry.connections().refused.get(), 2);
    assert_eq!(server.registry.connections().open.get(), 3);

    let first = &mut kept[0];
    first.write_all(b"GET /fast HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_until(first, "fast").await.starts_with("HTTP/1.1 200 "), "the others are served");
    in_time(async {
        while server.registry.connections().open.get() == 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let request = b"GET /fast HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
    assert!(ended(server.address, request).await.ends_with("fast"), "there is room again");
}

#[tokio::test]
async fn the_admin_port_has_a_limit_of_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, registry) = (listener.local_addr().unwrap(), Registry::new());
    admin::spawn(listener, Readiness::new(), registry.clone(), LogControl::Off);
    let request = b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut silent = Vec::new();
    // Three quarters of 256.
    for _ in 0..192 {
        silent.push(in_time(TcpStream::connect(address)).await.unwrap());
    }
    assert!(ended(address, request).await.starts_with("HTTP/1.1 503 "));
    silent.clear();
    in_time(async {
        while registry.connections().open.get() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(ended(address, request).await.ends_with(r#"{"live":true}"#));
}

#[tokio::test]
async fn a_small_unread_body_keeps_the_connection_open() {
    let server = start(NO_LIMIT, 100).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        let request = "POST /refuse HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nbody";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "too large").await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && !answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_names_a_host_which_is_not_allowed_is_refused() {
    let server = start(Timing::default(), 10).await;
    for (host, expected) in [("test", "200 "), ("localhost", "200 "), ("evil.example", "421 ")] {
        let request = format!("GET /fast HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = ended(server.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{host}: {answer}");
    }
}
