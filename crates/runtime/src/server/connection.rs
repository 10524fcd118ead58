//! One connection from its first byte to its end, over HTTP/1.1 or HTTP/2 without TLS.
//!
//! A connection that sends nothing, or too slowly, is closed. Its buffers are bounded. A client that is still sending when
//! it gets an early response can read that response, within limits.

use std::convert::Infallible;
use std::future::Future;
use std::iter;
use std::net;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::server::host_check::AllowedHosts;
use crate::server::service::{ConnectionService, DRAIN_BYTES, DRAIN_TIME};
use crate::server::socket::Socket;
use crate::server::timeouts::{Activity, Finding, Watch};
use crate::shutdown::Shutdown;

/// The first bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The number of bytes that are read to detect the protocol: usually the whole request.
const FIRST_READ: usize = 1024;

/// hyper's limit for the buffers of head, body and response of an HTTP/1 connection, each.
const BUFFER_MAX: usize = 64 << 10;

/// Concurrent requests on an HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Flow control windows: bytes that a client may send before they are read, per request and per connection.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
const FRAME_MAX: u32 = 16 << 10;
const HEADERS_MAX: u32 = 16 << 10;
const HEADER_TABLE: u32 = 4096;
/// Limits of streams that the client reset before they were accepted, and of streams reset because of its errors.
const RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 128;
/// The interval of HTTP/2 pings, and the time-out of their responses.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum pause between reads while the rest of a request is drained after an early response.
const DRAIN_PAUSE: Duration = Duration::from_secs(2);
/// Time-out of writing a response without hyper.
const WRITE_TIME: Duration = Duration::from_secs(1);

const SLOW_HEAD: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const LONG_LINE: &[u8] = b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 39\r\n\r\ntoo many connections; try again later\r\n";

/// Time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Until its first byte.
    pub first_byte: Duration,
    /// From its first byte until its protocol is detected.
    pub preface: Duration,
    /// The interval of checks. The head of a request may take one to two intervals.
    pub interval: Duration,
    /// The number of intervals for which a connection may be idle, and at most one more.
    pub idle_intervals: u32,
}

impl Default for Timing {
    /// A head may take 15 to 30 seconds, and an idle connection is closed after 75 to 90.
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(30),
            preface: Duration::from_secs(10),
            interval: Duration::from_secs(15),
            idle_intervals: 5,
        }
    }
}

/// The options that all connections of a server share.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    pub(crate) on_panic: fn() -> Response,
    pub(crate) hosts: AllowedHosts,
    pub(crate) on_wrong_host: fn() -> Response,
    pub(crate) timing: Timing,
    pub(crate) shutdown: Shutdown,
    /// Cancelled when the listener has been closed.
    pub(crate) closing: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves `stream` until it ends.
pub(crate) async fn serve(stream: net::TcpStream, router: Router, options: ConnectionOptions) {
    let Some(mut stream) = into_tokio(stream) else { return };
    let first = tokio::select! {
        biased;
        first = detect_protocol(&mut stream, &options.timing) => first,
        () = options.closing.cancelled() => None,
    };
    let Some((protocol, first)) = first else { return };
    let (activity, is_http2) = (Arc::new(Activity::default()), protocol == Protocol::Http2);
    let answering = Arc::new(ConnectionService {
        router,
        on_panic: options.on_panic,
        hosts: options.hosts.clone(),
        on_wrong_host: options.on_wrong_host,
        shutdown: options.shutdown.clone(),
        activity: activity.clone(),
        is_http2,
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = answering.clone();
        async move { Ok::<_, Infallible>(answering.answer(request).await) }
    });
    let socket = Socket::new(stream, first, !is_http2, activity.clone());
    if is_http2 {
        let mut connection = pin!(http2().serve_connection(socket, service));
        let shut = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
        log_end(&until_end(connection.as_mut(), shut, &activity, &options, is_http2).await);
    } else {
        let mut connection = http1().serve_connection(socket, service);
        let shut = |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown();
        let end = until_end(Pin::new(&mut connection), shut, &activity, &options, is_http2).await;
        log_end(&end);
        let stream = connection.into_parts().io.into_stream();
        // Seldom much, so it takes no room in the future of every connection.
        Box::pin(close(stream, end, &activity)).await;
    }
}

/// Refuses a connection beyond the limit, with a response if the client uses HTTP/1.
pub(crate) async fn refuse(stream: net::TcpStream) {
    let Some(mut stream) = into_tokio(stream) else { return };
    let timing = Timing { first_byte: WRITE_TIME, preface: WRITE_TIME, ..Timing::default() };
    if let Some((Protocol::Http1, _)) = detect_protocol(&mut stream, &timing).await {
        write_last(&mut stream, TOO_MANY).await;
        drain(&mut stream, BUFFER_MAX, WRITE_TIME).await;
    }
}

fn into_tokio(stream: net::TcpStream) -> Option<TcpStream> {
    match TcpStream::from_std(stream) {
        Ok(stream) => {
            // Responses are small and written at once, so waiting to fill a packet only adds latency.
            drop(stream.set_nodelay(true));
            Some(stream)
        }
        Err(error) => {
            tracing::error!(%error, "failed to serve a connection");
            None
        }
    }
}

/// Reads the first bytes, and detects the protocol from them; `None` if they do not arrive in time.
async fn detect_protocol(stream: &mut TcpStream, timing: &Timing) -> Option<(Protocol, Bytes)> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    let mut limit = Instant::now() + timing.first_byte;
    loop {
        let read = timeout_at(limit, stream.read_buf(&mut bytes)).await.ok()?.ok()?;
        if read == 0 {
            return None;
        }
        let known = bytes.len().min(PREFACE.len());
        if bytes[..known] != PREFACE[..known] {
            return Some((Protocol::Http1, bytes.into()));
        }
        if known == PREFACE.len() {
            return Some((Protocol::Http2, bytes.into()));
        }
        if read == bytes.len() {
            limit = Instant::now() + timing.preface;
        }
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // `Watch` limits the time of heads without a timer for each. Without vectored writes hyper writes head and body at
    // once, independent of what else the client has sent.
    builder.header_read_timeout(None).max_buf_size(BUFFER_MAX).writev(false);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(HEADERS_MAX)
        .header_table_size(HEADER_TABLE)
        .max_send_buf_size(BUFFER_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX);
    builder
}

/// Why a connection ended.
enum End {
    ByItself(hyper::Result<()>),
    SlowHead,
    Unread,
    Idle,
}

enum Event {
    /// The client should close the connection.
    GoAway,
    /// An interval is over.
    Look,
}

async fn until_end<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    shut: impl Fn(Pin<&mut C>),
    activity: &Activity,
    options: &ConnectionOptions,
    is_http2: bool,
) -> End {
    // HTTP/2 has GOAWAY to refuse new requests. HTTP/1 has only a header of the next response: an idle connection must
    // not be closed while its client may be sending a request.
    let go_away = async {
        tokio::select! {
            () = options.closing.cancelled() => {},
            () = async { options.shutdown.triggered().await; activity.first_request().await }, if is_http2 => {},
        }
        Event::GoAway
    };
    let look = || -> BoxFuture<'_, Event> { sleep(options.timing.interval).map(|()| Event::Look).boxed() };
    // These futures are polled only when one of them was woken, because each poll takes locks that all connections share.
    let mut events: FuturesUnordered<_> = iter::once(go_away.boxed()).chain([look()]).collect();
    let (mut watch, mut is_told) = (Watch::default(), false);
    loop {
        let event = tokio::select! {
            biased;
            ended = connection.as_mut() => return End::ByItself(ended),
            Some(event) = events.next() => event,
        };
        if matches!(event, Event::GoAway) {
            is_told = true;
            shut(connection.as_mut());
            continue;
        }
        events.push(look());
        match watch.look(activity, options.timing.idle_intervals) {
            Finding::Active => {}
            Finding::SlowHead => return End::SlowHead,
            Finding::Unread => return End::Unread,
            // The client may be sending a request. Over HTTP/2 it learns that it must send it over another connection.
            Finding::Idle if is_http2 && !is_told => {
                is_told = true;
                shut(connection.as_mut());
            }
            Finding::Idle => return End::Idle,
        }
    }
}

fn log_end(end: &End) {
    match end {
        End::ByItself(Ok(())) => {}
        End::ByItself(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        End::SlowHead => tracing::debug!("closed a connection: the head of a request did not arrive in time"),
        End::Unread => tracing::debug!("closed a connection: the client did not read its responses"),
        End::Idle => tracing::debug!("closed an idle connection"),
    }
}

/// Closes an HTTP/1 connection so that the client can read the last response.
async fn close(mut stream: TcpStream, end: End, activity: &Activity) {
    match end {
        End::SlowHead => write_last(&mut stream, SLOW_HEAD).await,
        End::ByItself(Err(_)) if activity.is_line_too_long() => {
            write_last(&mut stream, LONG_LINE).await;
            drain(&mut stream, DRAIN_BYTES, DRAIN_TIME).await;
        }
        // hyper has already responded to a request that it could not parse.
        End::ByItself(Err(error)) if error.is_parse() => drain(&mut stream, DRAIN_BYTES, DRAIN_TIME).await,
        End::ByItself(Ok(())) if activity.is_body_unread() => {
            drain(&mut stream, DRAIN_BYTES, DRAIN_TIME).await;
        }
        End::ByItself(_) | End::Unread | End::Idle => {}
    }
}

/// Writes a last response without hyper.
async fn write_last(stream: &mut TcpStream, answer: &[u8]) {
    // Errors are ignored: the client disconnected or does not read.
    drop(timeout(WRITE_TIME, stream.write_all(answer)).await);
    drop(stream.shutdown().await);
}

/// Reads and discards the bytes that the client still sends. Closing a connection with unread bytes resets it, and the client would
/// lose the response.
async fn drain(stream: &mut TcpStream, most: usize, longest: Duration) {
    let reading = async {
        let (mut chunk, mut left) = (vec![0; BUFFER_MAX], most);
        loop {
            match timeout(DRAIN_PAUSE, stream.read(&mut chunk)).await {
                Ok(Ok(read)) if read > 0 && read <= left => left -= read,
                _ => return,
            }
        }
    };
    drop(timeout(longest, reading).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_without_hyper_have_the_right_content_length() {
        for answer in [SLOW_HEAD, LONG_LINE, TOO_MANY] {
            let (head, body) = std::str::from_utf8(answer).unwrap().split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{head}: {}", body.len());
        }
    }
}
