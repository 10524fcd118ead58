//! Serves a router on a socket until the order to stop, then drains: nothing that was accepted is lost.
//!
//! Comes in: a listener and a router. Goes out: answers, over HTTP/1.1 and HTTP/2 without TLS. Never: a closed
//! door while clients may still come; they are told to go elsewhere first.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::iter;
use std::net::{self, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use axum::{Extension, Router};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::shutdown::Shutdown;
use crate::workers::Workers;

/// How long a client may take to send the head of a request, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long to wait before accepting again when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server serves and how it ends.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Who answers.
    pub workers: Workers,
    /// How long the door stays open after the order to stop: until every client has heard of it.
    pub drain: Duration,
    /// How long requests that are in flight after that may take.
    pub grace: Duration,
    /// What a caller is told when the code that should have answered panicked.
    pub on_panic: fn() -> Response,
    /// Whether a request says who sent it, as an extension [`Peer`]; it costs an allocation.
    pub tells_peer: bool,
}

/// Who has opened the connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves until the order to stop and returns when the last request is answered, or `grace` is over.
pub async fn serve(listener: TcpListener, router: Router, options: ServeOptions, shutdown: Shutdown) {
    let (connections, closing) = (TaskTracker::new(), CancellationToken::new());
    let mut drained = pin!(async {
        shutdown.ordered().await;
        tokio::time::sleep(options.drain).await;
    });
    loop {
        let stream = tokio::select! {
            // Out of this runtime: a worker's takes it in.
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(error) => {
                    refused_by_system(&error).await;
                    continue;
                }
            },
            () = &mut drained => break,
        };
        let (router, shutdown, closing) = (router.clone(), shutdown.clone(), closing.clone());
        let router = if options.tells_peer { with_peer(router, &stream) } else { router };
        let connection = connection(stream, router, options.on_panic, shutdown, closing);
        options.workers.spawn(&connections, connection);
    }
    drop(listener);
    closing.cancel();
    connections.close();
    if tokio::time::timeout(options.grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "gave up on requests that did not end in time");
    }
}

/// The router for one connection, whose requests say who has opened it.
fn with_peer(router: Router, stream: &net::TcpStream) -> Router {
    match stream.peer_addr() {
        Ok(peer) => router.layer(Extension(Peer(peer))),
        // It has left already, and nobody can be told.
        Err(_) => router,
    }
}

/// A client that left before it was accepted is nobody's fault; anything else is worth a line and a pause.
async fn refused_by_system(error: &io::Error) {
    let left = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !left.contains(&error.kind()) {
        tracing::error!(%error, "failed to accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(
    stream: net::TcpStream,
    router: Router,
    on_panic: fn() -> Response,
    shutdown: Shutdown,
    closing: CancellationToken,
) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::error!(%error, "failed to serve a connection"),
    };
    // Answers are small and written whole: waiting to fill a packet only adds delay.
    drop(stream.set_nodelay(true));
    let is_http2 = Arc::new(AtomicBool::new(false));
    let http2_seen = Arc::new(Notify::new());
    let service = {
        let (is_http2, http2_seen, shutdown) = (is_http2.clone(), http2_seen.clone(), shutdown.clone());
        service_fn(move |request: Request<Incoming>| {
            let is_first_of_http2 =
                request.version() == Version::HTTP_2 && !is_http2.swap(true, Ordering::Relaxed);
            if is_first_of_http2 {
                http2_seen.notify_one();
            }
            let (mut router, shutdown) = (router.clone(), shutdown.clone());
            async move {
                let one = request.version() != Version::HTTP_2;
                let answering =
                    async { router.call(request.map(Body::new)).await.unwrap_or_else(|e| match e {}) };
                let mut answer = catch_panic(answering).await.unwrap_or_else(on_panic);
                if one && shutdown.is_ordered() {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).pipeline_flush(true);
    builder.http2().timer(TokioTimer::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));

    // HTTP/2 has a word for "no new requests, but go on with these"; in HTTP/1 that is a header of each answer,
    // and an idle connection must not be closed under a client that is about to use it.
    let go_away = async {
        tokio::select! {
            () = closing.cancelled() => {},
            () = async { shutdown.ordered().await; http2_seen.notified().await } => {},
        }
    };
    // Looked at when it has woken up, not whenever a byte comes: each look takes locks that all connections share.
    let mut go_away: FuturesUnordered<_> = iter::once(go_away).collect();
    let ended = tokio::select! {
        biased;
        ended = &mut serving => ended,
        Some(()) = go_away.next() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The future's output, or `None` where it panicked: one request's panic must not take others with it.
async fn catch_panic<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled: Result<Poll<F::Output>, _> =
            catch_unwind(AssertUnwindSafe(|| Pin::as_mut(&mut future).poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}
