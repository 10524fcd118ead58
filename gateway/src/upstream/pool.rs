//! The pool of connections to one predictor, and the exchange of a request and its response. The only file with an HTTP client.
//!
//! The task of a request drives its connection: a response wakes one task instead of two, and a cancelled request closes its
//! connection. Each worker has idle connections of its own, so that a response wakes the worker that waits for it.
//!
//! No exchange lasts beyond its deadline, and no connection is opened while an open one is idle.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use canopy_contract::names::{REVISION_HEADER, TIMEOUT_HEADER};
use canopy_runtime::server::workers;
use canopy_runtime::trace::TraceContext;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::UpstreamError;
use crate::settings::Address;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How many idle connections a worker keeps.
const IDLE_MAX: usize = 128;
/// How many workers have idle connections of their own; further workers share.
const WORKER_SLOTS: usize = 8;
/// How often idle connections are checked.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// After how many checks an idle connection is closed: after 60 s, before the predictor closes it at 75 s.
const SWEEPS_MAX: u8 = 6;

static REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);
static TIMEOUT: HeaderName = HeaderName::from_static(TIMEOUT_HEADER);

/// A point in time, and how far ahead it was when it was set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) after: Duration,
}

impl Deadline {
    /// The deadline `after` from now.
    pub(crate) fn after(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }
}

/// A request to a predictor.
pub(crate) struct UpstreamRequest<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
    pub(crate) trace: &'a TraceContext,
    /// The longest body that the response may have, in bytes.
    pub(crate) response_max: usize,
}

/// A response of a predictor.
#[derive(Debug)]
pub(crate) struct UpstreamResponse {
    pub(crate) status: StatusCode,
    pub(crate) revision: Option<HeaderValue>,
    /// Whether the response has `Retry-After`: with a 503 the predictor is overloaded, without it is not ready.
    pub(crate) is_overloaded: bool,
    pub(crate) body: Bytes,
}

/// The address of a predictor and the idle connections to it.
pub(crate) struct ConnectionPool {
    address: Address,
    host: HeaderValue,
    url: String,
    /// By worker.
    idle: Arc<[Mutex<IdleConnections>; WORKER_SLOTS]>,
}

/// The idle connections of one worker.
#[derive(Default)]
struct IdleConnections {
    /// The most recently used connection is at the back and is used first.
    connections: VecDeque<Connection>,
    /// Whether a task checks them.
    is_swept: bool,
}

impl ConnectionPool {
    /// The pool for `address`, or `None` if the host is no valid header value.
    pub(crate) fn new(address: Address) -> Option<Self> {
        let host = HeaderValue::try_from(address.to_string()).ok()?;
        Some(Self { url: format!("http://{address}"), host, address, idle: Arc::default() })
    }

    /// The URL, for logs.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends `request` and returns the whole response.
    pub(crate) async fn send(
        &self,
        request: &UpstreamRequest<'_>,
        deadline: Deadline,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let Deadline { at, after } = deadline;
        timeout_at(at, self.attempt(request, at))
            .await
            .unwrap_or(Err(UpstreamError::DeadlineExceeded { after }))
    }

    async fn attempt(
        &self,
        request: &UpstreamRequest<'_>,
        until: Instant,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut was_delivered = false;
        if let Some(idle) = self.idle_connection() {
            // The predictor may close an idle connection just as it is used. A prediction has no side effects: send it again.
            match self.exchange(idle, request, until).await {
                Err(ExchangeError { has_begun: false, is_delivered, .. }) => was_delivered = is_delivered,
                other => return other.map_err(|failed| failed.error),
            }
        }
        let fresh = self.connect(was_delivered).await?;
        self.exchange(fresh, request, until).await.map_err(|failed| failed.error)
    }

    /// An idle connection that is not known to be closed.
    fn idle_connection(&self) -> Option<Connection> {
        loop {
            let mut last = lock(&self.idle[worker_slot()]).connections.pop_back()?;
            if last.is_open() {
                return Some(last);
            }
        }
    }

    /// Opens a connection. `delivered` says whether the predictor may have received the request over another one.
    async fn connect(&self, delivered: bool) -> Result<Connection, UpstreamError> {
        let to = (self.address.host.as_str(), self.address.port);
        let failed = |why: &dyn Display| format!("failed to connect to {}: {why}", self.url);
        let upstream_error = |error: io::Error| {
            let why = failed(&error);
            if is_local(&error) {
                UpstreamError::OutOfSockets { why, delivered }
            } else {
                UpstreamError::Unreachable { why, delivered }
            }
        };
        let Ok(connected) = timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await else {
            let why = failed(&format_args!("no connection within {CONNECT_TIMEOUT:?}"));
            return Err(UpstreamError::Unreachable { why, delivered });
        };
        let stream = connected.map_err(upstream_error)?;
        // Requests are small and written at once: waiting for a full packet only adds latency.
        stream.set_nodelay(true).map_err(upstream_error)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) =
            handshake.map_err(|error| UpstreamError::Unreachable { why: failed(&error), delivered })?;
        Ok(Connection { sender, driver: Some(Box::new(driver)), sweeps: 0 })
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: &UpstreamRequest<'_>,
        until: Instant,
    ) -> Result<UpstreamResponse, ExchangeError> {
        let sent = connection.sender.send_request(self.http_request(request, until));
        let response = connection.drive(sent).await.map_err(|error| {
            let why = format!("no response from {}: {}", self.url, causes(&error));
            // Only a request that hyper gave back was surely not sent. A request without a body has no rows to deliver.
            let delivered = !request.body.is_empty() && !error.is_canceled();
            // A predictor that closes the connection or answers nonsense is running; one that resets it may be gone.
            let is_there = error.is_parse() || error.is_incomplete_message();
            let upstream_error = if is_there {
                UpstreamError::Failed(why)
            } else {
                UpstreamError::Unreachable { why, delivered }
            };
            ExchangeError { error: upstream_error, has_begun: error.is_parse(), is_delivered: delivered }
        })?;
        let (head, body) = response.into_parts();
        let body = connection.collect(body, request.response_max).await.map_err(|why| {
            let upstream_error =
                UpstreamError::Failed(format!("incomplete response from {}: {why}", self.url));
            ExchangeError { error: upstream_error, has_begun: true, is_delivered: true }
        })?;
        self.return_connection(connection);
        let is_overloaded = head.headers.contains_key(RETRY_AFTER);
        Ok(UpstreamResponse {
            status: head.status,
            revision: head.headers.get(&REVISION).cloned(),
            is_overloaded,
            body,
        })
    }

    fn http_request(&self, request: &UpstreamRequest<'_>, until: Instant) -> Request<Full<Bytes>> {
        let UpstreamRequest { method, path, body, trace, response_max: _ } = request;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = http::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let left = until.saturating_duration_since(Instant::now()).as_millis() as u64;
        headers.insert(&TIMEOUT, HeaderValue::from(left));
        trace.inject(headers);
        request
    }

    /// Returns `connection` to the idle ones of this worker if it is still open.
    fn return_connection(&self, connection: Connection) {
        if connection.driver.is_none() {
            return;
        }
        let slot = worker_slot();
        let mut idle = lock(&self.idle[slot]);
        if idle.connections.len() == IDLE_MAX {
            idle.connections.pop_front();
        }
        idle.connections.push_back(Connection { sweeps: 0, ..connection });
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.idle), slot, SWEEP_EVERY));
        }
    }
}

/// The index of this worker's idle connections.
fn worker_slot() -> usize {
    workers::worker_index() % WORKER_SLOTS
}

fn lock(idle: &Mutex<IdleConnections>) -> MutexGuard<'_, IdleConnections> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks the idle connections of one worker until there are none or the pool is dropped.
async fn sweep(idle: Weak<[Mutex<IdleConnections>; WORKER_SLOTS]>, slot: usize, every: Duration) {
    loop {
        sleep(every).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = lock(&idle[slot]);
        idle.sweep();
        if idle.connections.is_empty() {
            idle.is_swept = false;
            return;
        }
    }
}

impl IdleConnections {
    /// Closes connections that the predictor has closed or that were idle for too long.
    fn sweep(&mut self) {
        self.connections.retain_mut(|connection| {
            connection.sweeps += 1;
            connection.sweeps < SWEEPS_MAX && connection.is_open()
        });
    }
}

/// Whether a connection failed because of this process or machine: no file descriptor, port, memory or permission.
fn is_local(error: &io::Error) -> bool {
    let local = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::ACCESS,
        Errno::PERM,
    ];
    error.raw_os_error().is_some_and(|code| local.iter().any(|local| local.raw_os_error() == code))
}

/// An exchange that ended without a response.
struct ExchangeError {
    error: UpstreamError,
    /// Whether a part of the response arrived.
    has_begun: bool,
    /// Whether the predictor may have received rows.
    is_delivered: bool,
}

/// A connection and its driver, which moves bytes while a request polls it.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` when the connection has ended; a pending request then gets an error.
    driver: Option<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    /// How often it was checked since its last use.
    sweeps: u8,
}

impl Connection {
    /// Whether the connection can take a request, as far as is known without sending one. It cannot if the predictor answered
    /// the last request before reading all of it.
    fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.advance(&mut context);
        matches!(self.sender.poll_ready(&mut context), Poll::Ready(Ok(())))
    }

    /// Polls `future` and the driver until `future` is ready.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            self.advance(context);
            future.as_mut().poll(context)
        })
        .await
    }

    fn advance(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(&mut **driver).poll(context).is_ready()
        {
            self.driver = None;
        }
    }

    /// Reads `body` to its end, up to `max` bytes.
    async fn collect(&mut self, body: Incoming, max: usize) -> Result<Bytes, String> {
        if body.size_hint().lower() > max as u64 {
            return Err(format!("the body is longer than {max} bytes"));
        }
        let collected = self.drive(Limited::new(body, max).collect()).await;
        collected.map(Collected::to_bytes).map_err(|error| causes(&*error))
    }
}

/// An error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A pool with one idle connection, and the predictor's side of that connection.
    async fn pool_with_idle_connection() -> (ConnectionPool, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = ConnectionPool::new(listener.local_addr().unwrap().into()).unwrap();
        let trace = TraceContext::from_headers(&http::HeaderMap::new());
        let request = UpstreamRequest {
            method: Method::GET,
            path: "/model",
            body: Bytes::new(),
            trace: &trace,
            response_max: 9,
        };
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut bytes).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            stream
        };
        let (response, stream) = tokio::join!(pool.send(&request, Deadline::after(DEADLINE)), answers);
        assert_eq!(response.unwrap().body, "{}");
        (pool, stream)
    }

    fn idle(pool: &ConnectionPool) -> usize {
        lock(&pool.idle[worker_slot()]).connections.len()
    }

    fn sweep_once(pool: &ConnectionPool) {
        lock(&pool.idle[worker_slot()]).sweep();
    }

    #[tokio::test]
    async fn an_idle_connection_that_the_predictor_closed_is_closed_at_the_next_check() {
        let (pool, mut stream) = pool_with_idle_connection().await;
        sweep_once(&pool);
        assert_eq!(idle(&pool), 1, "the connection is open");
        stream.shutdown().await.unwrap();
        let closed = async {
            while idle(&pool) > 0 {
                tokio::task::yield_now().await;
                lock(&pool.idle[worker_slot()]).connections.iter_mut().for_each(|idle| idle.sweeps = 0);
                sweep_once(&pool);
            }
            stream.read(&mut [0]).await.unwrap()
        };
        assert_eq!(
            timeout(DEADLINE, closed).await.unwrap(),
            0,
            "the predictor sees the end of the connection"
        );
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_a_minute_and_the_task_that_checks_it_ends() {
        let (pool, _stream) = pool_with_idle_connection().await;
        assert!(lock(&pool.idle[worker_slot()]).is_swept, "a task checks the idle connections");
        for _ in 2..SWEEPS_MAX {
            sweep_once(&pool);
            assert_eq!(idle(&pool), 1);
        }
        let task = sweep(Arc::downgrade(&pool.idle), worker_slot(), Duration::from_millis(1));
        timeout(DEADLINE, task).await.unwrap();
        assert_eq!(idle(&pool), 0);
        assert!(!lock(&pool.idle[worker_slot()]).is_swept);
        assert!(
            (Duration::from_secs(50)..Duration::from_secs(75)).contains(&(SWEEP_EVERY * SWEEPS_MAX.into()))
        );
    }

    #[test]
    fn errors_of_this_machine_are_not_attributed_to_the_predictor() {
        let is_local = |error: Errno| is_local(&io::Error::from(error));
        for error in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::ACCESS] {
            assert!(is_local(error), "{error}");
        }
        for error in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            assert!(!is_local(error), "{error}");
        }
        assert!(!super::is_local(&io::Error::other("no such host")));
    }
}
