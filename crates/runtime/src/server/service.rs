//! Handles one request of a connection: from hyper's body to the router, and back to a response that the client can read.
//!
//! A response may be ready before the request's body was read (404, 413). Over HTTP/2 the stream then stays open until a bounded
//! part of the rest has been read; over HTTP/1 the connection is closed after the response, see `connection`.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use std::future::poll_fn;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::timeout;
use tower::Service as _;

use crate::server::host_check::AllowedHosts;
use crate::server::response_body;
use crate::server::timeouts::Activity;
use crate::shutdown::Shutdown;

/// The maximum size of the rest of a body that is read and discarded, so that its sender reads the response.
pub(crate) const DRAIN_BYTES: usize = 64 << 20;
/// The time limit for this.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(10);
/// A body up to this size has usually arrived with its head, so hyper discards it and keeps the connection.
const SMALL_BODY: u64 = 8 << 10;

/// Handles the requests of one connection.
pub(crate) struct ConnectionService {
    pub(crate) router: Router,
    pub(crate) on_panic: fn() -> Response,
    pub(crate) hosts: AllowedHosts,
    pub(crate) on_wrong_host: fn() -> Response,
    pub(crate) shutdown: Shutdown,
    pub(crate) activity: Arc<Activity>,
    pub(crate) is_http2: bool,
}

impl ConnectionService {
    /// The response to `request`.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response {
        let in_flight = self.activity.begins();
        let length = request.body().size_hint().exact();
        let (head, body) = request.into_parts();
        let mut rest = None;
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            rest = self.is_http2.then(Rest::default);
            Body::new(Tracked {
                body: Some(body),
                is_over: false,
                activity: self.activity.clone(),
                rest: rest.clone(),
            })
        };
        let mut router = self.router.clone();
        let answering = async {
            if !self.hosts.allow(&head) {
                return (self.on_wrong_host)();
            }
            router.call(Request::from_parts(head, body)).await.unwrap_or_else(|e| match e {})
        };
        // A panic in one request must not end others on the same worker.
        let caught = AssertUnwindSafe(answering).catch_unwind().await;
        let mut answer = caught.unwrap_or_else(|_| (self.on_panic)());
        if self.is_http2 {
            if let Some(rest) = rest.and_then(|rest| rest.take()) {
                answer = answer.map(|body| Body::new(ThenDrained::new(body, rest)));
            }
        } else {
            let is_cut = self.activity.is_body_unread() && length.is_none_or(|length| length > SMALL_BODY);
            if is_cut || self.shutdown.is_triggered() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        drop(in_flight);
        response_body::track_progress(answer, &self.activity)
    }
}

/// The unread rest of a request's body, after the handler has dropped the body.
#[derive(Clone, Default)]
struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    fn put(&self, body: Option<Incoming>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body;
    }

    fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body of a request, which reports when it is dropped before its end.
struct Tracked {
    /// `None` once it is dropped.
    body: Option<Incoming>,
    is_over: bool,
    activity: Arc<Activity>,
    rest: Option<Rest>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        // After an error there is nothing more to read.
        self.is_over = !matches!(frame, Some(Ok(_))) || body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.is_over {
            self.activity.body_is_unread();
            if let Some(rest) = &self.rest {
                rest.put(self.body.take());
            }
        }
    }
}

/// The body of a response, which ends after the rest of the request was read or has exceeded its limits: HTTP/2 resets a stream whose
/// response ends first, and clients report that as a failure.
struct ThenDrained {
    body: Body,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
}

impl ThenDrained {
    fn new(body: Body, rest: Incoming) -> Self {
        Self { body, drain: Box::pin(drain(rest)), is_over: false }
    }
}

impl HttpBody for ThenDrained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) {
            return Poll::Ready(Some(frame));
        }
        if !self.is_over {
            ready!(self.drain.as_mut().poll(context));
            self.is_over = true;
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads and drops the rest of a body, up to a limit of size and time.
async fn drain(mut body: Incoming) {
    let reading = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    // After the time limit the stream is reset.
    drop(timeout(DRAIN_TIME, reading).await);
}
