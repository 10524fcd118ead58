//! A load generator: requests at a fixed rate, sent once, with the outcome of each by phases of the test.
//!
//! The time of a request starts when it is due, also while its sender still waits for an earlier answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use crate::report::{Answer, Failure, GIVEN_UP, Report, Sent};
use crate::wait::until;

/// The least number of requests in a phase.
pub const PHASE_MIN: usize = 1000;
/// The longest time for a phase to get its requests.
const PHASE_MAX: Duration = Duration::from_mins(5);

/// The requests, and their rate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The address of the gateway.
    pub address: SocketAddr,
    /// The path of each request.
    pub path: String,
    /// The bodies, which are sent in turn, each with its expected class.
    pub bodies: Vec<(String, u64)>,
    /// Requests per second.
    pub per_second: u32,
    /// The number of senders. Every second one opens a new connection for each request, the others keep theirs.
    pub connections: usize,
}

impl Plan {
    /// 200 requests a second on 32 connections, for predictions of `model`.
    pub fn predictions(address: SocketAddr, model: &str, rows: &[(&[f64], u64)]) -> Self {
        let body = |(row, class): &(&[f64], u64)| (format!("{{\"features\":{}}}", Value::from(*row)), *class);
        Self {
            address,
            path: format!("/api/models/{model}/predict"),
            bodies: rows.iter().map(body).collect(),
            per_second: 200,
            connections: 32,
        }
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    phases: Vec<String>,
    senders: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    uri: Uri,
    host: HeaderValue,
    start: Instant,
    phase: AtomicUsize,
    stopped: AtomicBool,
    sent: Mutex<Vec<Sent>>,
}

impl Load {
    /// Starts it.
    pub fn start(plan: Plan) -> Result<Self> {
        ensure!(
            !plan.bodies.is_empty() && plan.connections > 0,
            "a plan needs at least one body and one connection, got {plan:?}"
        );
        let shared = Arc::new(Shared {
            uri: plan.path.parse()?,
            host: plan.address.to_string().parse()?,
            start: Instant::now(),
            phase: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            sent: Mutex::default(),
            plan,
        });
        let mut senders = JoinSet::new();
        for sender in 0..shared.plan.connections {
            senders.spawn(send_when_due(shared.clone(), sender));
        }
        Ok(Self { shared, phases: vec!["at first".to_owned()], senders })
    }

    /// Begins a phase.
    pub fn phase(&mut self, name: &str) {
        self.phases.push(name.to_owned());
        self.shared.phase.store(self.phases.len() - 1, Ordering::Relaxed);
    }

    /// Renames the current phase.
    pub fn rename(&mut self, name: &str) {
        if let Some(last) = self.phases.last_mut() {
            name.clone_into(last);
        }
    }

    /// Returns when the current phase has [`PHASE_MIN`] requests.
    pub async fn phase_is_long_enough(&self) -> Result<()> {
        until("the requests of a phase", PHASE_MAX, async || {
            let count = self.count_in_phase(|_| true);
            ensure!(count >= PHASE_MIN, "expected {PHASE_MIN} requests in the phase, got {count}");
            Ok(())
        })
        .await
    }

    /// Returns when `count` requests of the current phase have failed with `kind`.
    pub async fn fails(&self, kind: Failure, count: usize) -> Result<()> {
        until("failed requests", PHASE_MAX, async || {
            let bodies = &self.shared.plan.bodies;
            let is_of_kind = |sent: &Sent| sent.failure(bodies).is_some_and(|(found, _)| found == kind);
            let (failed, all) = (self.count_in_phase(is_of_kind), self.count_in_phase(|_| true));
            ensure!(failed >= count, "expected {count} failures {kind:?}, got {failed} of {all} requests");
            Ok(())
        })
        .await
    }

    /// A phase without a fault.
    pub async fn calm(&mut self, name: &str) -> Result<()> {
        self.phase(name);
        self.phase_is_long_enough().await
    }

    /// The number of requests of the current phase that have failed.
    pub fn failed_in_phase(&self) -> usize {
        self.count_in_phase(|sent| sent.failure(&self.shared.plan.bodies).is_some())
    }

    fn count_in_phase(&self, is: impl Fn(&Sent) -> bool) -> usize {
        let (sent, phase) = (self.lock(), self.phases.len() - 1);
        sent.iter().filter(|sent| sent.phase == phase && is(sent)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A phase that lasts until `fault` is done and the phase has [`PHASE_MIN`] requests.
    pub async fn during<T>(&mut self, name: &str, fault: impl Future<Output = Result<T>>) -> Result<T> {
        self.phase(name);
        let done = fault.await?;
        self.phase_is_long_enough().await?;
        Ok(done)
    }

    /// The outcomes so far.
    pub fn so_far(&self) -> Vec<Sent> {
        self.lock().clone()
    }

    /// The number of outcomes so far.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Stops it after the requests that are in flight.
    pub async fn stop(mut self) -> Report {
        self.shared.stopped.store(true, Ordering::Relaxed);
        while self.senders.join_next().await.is_some() {}
        let mut sent = self.so_far();
        sent.sort_by_key(|sent| sent.due);
        Report { phases: self.phases, bodies: self.shared.plan.bodies.clone(), sent }
    }
}

/// Sends the requests of one sender, each when it is due, or after the previous one if that takes longer.
async fn send_when_due(shared: Arc<Shared>, sender: usize) {
    let Plan { per_second, connections, bodies, .. } = &shared.plan;
    let period = Duration::from_secs(1) / *per_second;
    let of_sender = period * u32::try_from(*connections).unwrap_or(u32::MAX);
    let first = shared.start + period * u32::try_from(sender).unwrap_or(u32::MAX);
    // Missed ticks follow at once.
    let mut ticks = interval_at(first, of_sender);
    let (mut kept, mut number) = (None, sender);
    loop {
        let due = ticks.tick().await;
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let phase = shared.phase.load(Ordering::Relaxed);
        let began = shared.start.elapsed();
        if sender.is_multiple_of(2) {
            kept = None;
        }
        // Every sender sends all of the bodies.
        let body = (number / connections + number) % bodies.len();
        let answer = timeout(GIVEN_UP, shared.send(&mut kept, &bodies[body].0)).await;
        let outcome = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {GIVEN_UP:?}")));
        if outcome.is_err() {
            kept = None;
        }
        let sent = Sent {
            due: due - shared.start,
            began,
            took: due.elapsed(),
            body,
            sender,
            phase,
            outcome: outcome.map_err(|error| format!("{error:#}")),
        };
        shared.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        number += connections;
    }
}

impl Shared {
    /// Sends a request over the kept connection, if it is still open, or over a new one.
    async fn send(&self, kept: &mut Option<SendRequest<Full<Bytes>>>, body: &str) -> Result<Answer> {
        let mut open = None;
        if let Some(mut before) = kept.take() {
            // If the server has closed it, no request was on it, so no request is sent twice.
            open = before.ready().await.is_ok().then_some(before);
        }
        let mut connection = match open {
            Some(open) => open,
            None => self.connect().await?,
        };
        let mut request = Request::post(self.uri.clone()).body(Full::from(body.to_owned()))?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = connection.send_request(request).await.context("no answer")?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.context("answer cut short")?.to_bytes();
        *kept = Some(connection);
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let class = json["prediction"]["class"].as_u64().or_else(|| json["predictions"][0]["class"].as_u64());
        Ok(Answer {
            status: head.status.as_u16(),
            revision: head.headers.get("canopy-revision").map_or("", |r| r.to_str().unwrap_or("")).to_owned(),
            class,
            text: if class.is_some() { String::new() } else { String::from_utf8_lossy(&body).into_owned() },
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.plan.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, which gets the error if the connection breaks.
        tokio::spawn(connection);
        sender.ready().await.context("connection lost")?;
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::AtomicU32;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use tokio::net::TcpListener;

    use crate::report::Expected;

    /// A load on a server that responds to each request with `answer` of its number.
    async fn load(answer: fn(u32) -> (StatusCode, &'static str)) -> Load {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let handler = post(async move || answer(count.fetch_add(1, Ordering::Relaxed)));
        let router = Router::new().route("/api/models/m/predict", handler);
        tokio::spawn(async { axum::serve(listener, router).await });
        let mut plan = Plan::predictions(address, "m", &[(&[1.0], 1), (&[2.0], 1)]);
        plan.per_second = 1000;
        Load::start(plan).unwrap()
    }

    const RIGHT: (StatusCode, &str) = (StatusCode::OK, r#"{"prediction":{"class":1}}"#);

    #[tokio::test]
    async fn every_right_answer_counts_at_its_rate_and_in_its_phase() {
        let mut load = load(|_| RIGHT).await;
        load.calm("before").await.unwrap();
        assert_eq!(load.during("during", async { Ok(7) }).await.unwrap(), 7);
        let report = load.stop().await;
        report.all_answered("all").unwrap();
        let reset = Expected { phase: "during", kinds: &[Failure::Connection], at_least: 1 };
        assert!(report.failed_as_expected("all", &[reset]).is_err());
        let of = |phase: usize| report.sent.iter().filter(|sent| sent.phase == phase).count();
        assert!(of(1) >= PHASE_MIN && of(2) >= PHASE_MIN, "{report}");
        for body in 0..2 {
            assert!(report.sent.iter().any(|sent| sent.sender == 3 && sent.body == body), "{report}");
        }
        let last = report.sent.last().unwrap().due.as_secs_f64();
        let rate = report.sent.len() as f64 / last;
        assert!((900.0..1100.0).contains(&rate), "{rate}");
    }

    #[tokio::test]
    async fn a_wrong_class_and_an_error_status_are_failures_of_their_phase() {
        let mut load = load(|number| match number % 100 {
            50 => (StatusCode::OK, r#"{"prediction":{"class":0}}"#),
            51 => (StatusCode::SERVICE_UNAVAILABLE, "no"),
            _ => RIGHT,
        })
        .await;
        load.calm("calm").await.unwrap();
        let report = load.stop().await;
        let failed = report.failed();
        assert!(failed.iter().any(|line| line.ends_with("expected class 1, got Some(0)")), "{failed:?}");
        assert!(failed.iter().any(|line| line.ends_with("503: no")), "{failed:?}");
        assert!((20..=failed.len()).contains(&failed.len()), "{failed:?}");
        assert!(report.all_answered("some").is_err());
        let both = [Failure::Status(503), Failure::WrongClass];
        let expected = |phase, kinds, at_least| Expected { phase, kinds, at_least };
        let first = |kinds, at_least| [expected("at first", kinds, 0), expected("calm", kinds, at_least)];
        report.failed_as_expected("both kinds", &first(&both, 5)).unwrap();
        let error = report.failed_as_expected("too few", &first(&both, 1000)).unwrap_err().to_string();
        assert!(
            error.contains("expected at least 1000 failures Some(Status(503)) in phase \"calm\""),
            "{error}"
        );
        let error = report.failed_as_expected("one kind", &first(&both[..1], 5)).unwrap_err().to_string();
        assert!(error.contains("failed unexpectedly"), "{error}");
        assert!(report.failed_as_expected("another phase", &[expected("after", &both, 0)]).is_err());
    }

    #[tokio::test]
    async fn every_request_to_a_closed_port_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plan = Plan::predictions(listener.local_addr().unwrap(), "m", &[(&[1.0], 1)]);
        drop(listener);
        plan.per_second = 2000;
        let mut load = Load::start(plan).unwrap();
        load.calm("calm").await.unwrap();
        let report = load.stop().await;
        assert_eq!(report.failed().len(), report.sent.len());
        assert!(report.failed()[0].contains("no connection"), "{}", report.failed()[0]);
    }
}
