//! One predictor's address, and a pool of connections to it. The only file that speaks HTTP as a client.
//!
//! Comes in: a request and a deadline. Goes out: the whole answer, or why there is none. Never: a wait beyond
//! the deadline, an answer longer than was asked for, or a second connection while one is idle.
//!
//! A connection is driven by the request that uses it, not by a task of its own: an answer wakes one task
//! instead of two, and what a client no longer waits for ends with its request. Each worker keeps connections of its
//! own: one that another worker had opened would have that one wake up for every answer.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use canopy_contract::names::{REVISION_HEADER, TIMEOUT_HEADER};
use canopy_runtime::trace::TraceContext;
use canopy_runtime::workers;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::failure::Trouble;
use crate::pieces::Pieces;
use crate::settings::Address;

/// How long a predictor may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How many connections a worker keeps for later; more are closed when their request ends.
const IDLE_MAX: usize = 128;
/// How many workers keep connections apart from all others; of more, some share.
const APART: usize = 8;

// Made once: to make one of a text takes a look at each of its letters.
static REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);
static TIMEOUT: HeaderName = HeaderName::from_static(TIMEOUT_HEADER);

/// A time by which something must have happened, and how long that was when it was set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) after: Duration,
}

impl Deadline {
    /// `after` from now.
    pub(crate) fn in_(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }
}

/// What a predictor is asked.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
    pub(crate) trace: &'a TraceContext,
    /// How many bytes the body of the answer may have.
    pub(crate) answer_max: usize,
}

/// What a predictor answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) revision: Option<HeaderValue>,
    /// Whether it has more to do than it can, if its status says that it does not serve.
    pub(crate) is_overloaded: bool,
    pub(crate) body: Bytes,
}

/// Where a predictor listens, and the connections to it that are idle.
pub(crate) struct Endpoint {
    address: Address,
    host: HeaderValue,
    url: String,
    /// By worker. The one used last is at the back, and is used first.
    idle: [Mutex<VecDeque<Connection>>; APART],
}

impl Endpoint {
    /// The endpoint at `address`; nothing if its host cannot stand in a header.
    pub(crate) fn new(address: Address) -> Option<Self> {
        let host = HeaderValue::try_from(address.to_string()).ok()?;
        Some(Self { url: format!("http://{address}"), host, address, idle: Default::default() })
    }

    /// Its URL, for logs.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks and waits for the whole answer.
    pub(crate) async fn ask(&self, question: &Question<'_>, deadline: Deadline) -> Result<Reply, Trouble> {
        let Deadline { at, after } = deadline;
        timeout_at(at, self.attempt(question, at)).await.unwrap_or(Err(Trouble::Late { after }))
    }

    async fn attempt(&self, question: &Question<'_>, until: Instant) -> Result<Reply, Trouble> {
        if let Some(idle) = self.idle_connection().await {
            // An idle connection may be closed at the very moment it is used. Nothing was answered, and to
            // predict twice does no harm, so this says nothing about the predictor yet.
            match self.exchange(idle, question, until).await {
                Err(Broken { has_begun: false, .. }) => {}
                other => return other.map_err(|broken| broken.trouble),
            }
        }
        let fresh = self.connect().await.map_err(Trouble::Unreachable)?;
        self.exchange(fresh, question, until).await.map_err(|broken| broken.trouble)
    }

    /// A connection that was used before and is not known to be closed.
    async fn idle_connection(&self) -> Option<Connection> {
        loop {
            let mut last = self.idle().pop_back()?;
            if last.is_open().await {
                return Some(last);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let failed = |why: &dyn Display| format!("failed to connect to {}: {why}", self.url);
        let to = (self.address.host.as_str(), self.address.port);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(to))
            .await
            .map_err(|_| failed(&format_args!("not accepted within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| failed(&error))?;
        // Requests are small and written whole: waiting to fill a packet only adds delay.
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        Ok(Connection { sender, driver: Some(Box::new(driver)) })
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        question: &Question<'_>,
        until: Instant,
    ) -> Result<Reply, Broken> {
        let request = self.request(question, until);
        let sent = connection.sender.send_request(request);
        let answer = connection.drive(sent).await.map_err(|error| {
            let why = format!("no answer from {}: {}", self.url, causes(&error));
            // Who hangs up on a request was there to do so, and who resets may be gone.
            let is_there = error.is_parse() || error.is_incomplete_message();
            let trouble = if is_there { Trouble::Failed(why) } else { Trouble::Unreachable(why) };
            Broken { trouble, has_begun: error.is_parse() }
        })?;
        let status = answer.status();
        let (head, body) = answer.into_parts();
        let body = connection.whole(body, question.answer_max).await.map_err(|why| {
            let trouble = Trouble::Failed(format!("no whole answer from {}: {why}", self.url));
            Broken { trouble, has_begun: true }
        })?;
        self.keep(connection);
        let is_overloaded = head.headers.contains_key(RETRY_AFTER);
        Ok(Reply { status, revision: head.headers.get(&REVISION).cloned(), is_overloaded, body })
    }

    fn request(&self, question: &Question<'_>, until: Instant) -> Request<Full<Bytes>> {
        let Question { method, path, body, trace, answer_max: _ } = question;
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

    fn idle(&self) -> MutexGuard<'_, VecDeque<Connection>> {
        self.idle[workers::place() % APART].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, connection: Connection) {
        if connection.driver.is_some() {
            let mut idle = self.idle();
            if idle.len() == IDLE_MAX {
                idle.pop_front();
            }
            idle.push_back(connection);
        }
    }
}

/// How an exchange ended without an answer.
struct Broken {
    trouble: Trouble,
    /// Whether some of an answer had come.
    has_begun: bool,
}

/// A connection, and what moves its bytes while somebody waits for them.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Gone when the connection has ended: who still waits for an answer then hears of it.
    driver: Option<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

impl Connection {
    /// Whether the other side still takes requests, as far as can be known without sending one.
    async fn is_open(&mut self) -> bool {
        poll_fn(|context| {
            self.advance(context);
            self.sender.poll_ready(context).map(|ready| ready.is_ok())
        })
        .await
    }

    /// The output of `future`, which waits for what comes over this connection.
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

    /// The whole of `body`, or why not.
    async fn whole(&mut self, mut body: Incoming, max: usize) -> Result<Bytes, String> {
        let mut pieces = Pieces::expecting(&body.size_hint(), max).map_err(|error| error.to_string())?;
        while !body.is_end_stream() {
            let Some(frame) = self.drive(body.frame()).await else { break };
            if let Ok(data) = frame.map_err(|error| causes(&error))?.into_data() {
                pieces.add(data).map_err(|error| error.to_string())?;
            }
        }
        Ok(pieces.join())
    }
}

/// What an error says, and what was behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
