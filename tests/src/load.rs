//! Requests at a fixed rate, whatever becomes of them: what many clients do to a gateway.
//!
//! Comes in: an address, what to ask, how often, over how many connections. Goes out: what became of each request, in
//! the order they were due, by phases of the test. Never: a second attempt, nor a request that waits for another one's
//! answer without its own clock running.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::wait::until;

/// How many requests a phase has at least.
pub const PHASE_MIN: usize = 1000;
/// An answer that comes later than this is a failure.
pub const LATEST: Duration = Duration::from_secs(2);
/// After so long a request is given up.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// How long a phase may take to have all its requests.
const PHASE_MAX: Duration = Duration::from_mins(5);

/// What is asked, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom.
    pub address: SocketAddr,
    /// At which path.
    pub path: String,
    /// The bodies that are sent, in turn, each with the class that it must get.
    pub bodies: Vec<(String, u64)>,
    /// How many requests a second.
    pub per_second: u32,
    /// Over how many connections at once. One of two asks over a new connection each time, the others keep theirs.
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

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was due, from the start of the load.
    pub due: Duration,
    /// When it was sent: later only where its sender still waited for the answer to another one.
    pub began: Duration,
    /// From when it was due until its answer, or its failure.
    pub took: Duration,
    /// Which of the plan's bodies it had.
    pub body: usize,
    /// Who sent it, one request after the other.
    pub sender: usize,
    /// In which phase it was due.
    pub phase: usize,
    /// The answer; or why there was none.
    pub outcome: Result<Answer, String>,
}

/// What a gateway answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Of the model that answered; empty where none did.
    pub revision: String,
    /// That was predicted.
    pub class: Option<u64>,
    /// The body, where it is no prediction.
    pub text: String,
}

impl Sent {
    /// Why this is not what a client wanted, if so: anything but a prediction of the right class in time.
    fn fault(&self, bodies: &[(String, u64)]) -> Option<String> {
        match &self.outcome {
            Err(why) => Some(why.clone()),
            Ok(answer) if answer.status != 200 => Some(format!("{}: {}", answer.status, answer.text)),
            Ok(answer) if answer.class != Some(bodies[self.body].1) => {
                Some(format!("class {:?} instead of {}", answer.class, bodies[self.body].1))
            }
            Ok(_) if self.took > LATEST => Some(format!("later than {LATEST:?}")),
            Ok(_) => None,
        }
    }
}

/// Load that goes on until it is stopped.
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
    enough: AtomicBool,
    sent: Mutex<Vec<Sent>>,
}

impl Load {
    /// Starts it.
    pub fn start(plan: Plan) -> Result<Self> {
        ensure!(!plan.bodies.is_empty() && plan.connections > 0, "there is nothing to send in {plan:?}");
        let shared = Arc::new(Shared {
            uri: plan.path.parse()?,
            host: plan.address.to_string().parse()?,
            start: Instant::now(),
            phase: AtomicUsize::new(0),
            enough: AtomicBool::new(false),
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

    /// Says what the present phase turned out to be.
    pub fn rename(&mut self, name: &str) {
        if let Some(last) = self.phases.last_mut() {
            name.clone_into(last);
        }
    }

    /// Returns when the present phase has as many requests as one must have.
    pub async fn goes_on(&self) -> Result<()> {
        until("a phase to have its requests", PHASE_MAX, async || {
            let count = self.so_far().iter().filter(|sent| sent.phase == self.phases.len() - 1).count();
            ensure!(count >= PHASE_MIN, "there are {count} of {PHASE_MIN}");
            Ok(())
        })
        .await
    }

    /// Returns when a request has failed in the present phase.
    pub async fn fails(&self) -> Result<()> {
        until("a request to fail", PHASE_MAX, async || {
            let phase = self.phases.len() - 1;
            let failed = |sent: &Sent| sent.phase == phase && sent.fault(&self.shared.plan.bodies).is_some();
            ensure!(self.so_far().iter().any(failed), "none of {} has", self.so_far().len());
            Ok(())
        })
        .await
    }

    /// A phase in which nothing happens.
    pub async fn calm(&mut self, name: &str) -> Result<()> {
        self.phase(name);
        self.goes_on().await
    }

    /// A phase that lasts as long as `fault` does, and until it has as many requests as one must have.
    pub async fn during<T>(&mut self, name: &str, fault: impl Future<Output = Result<T>>) -> Result<T> {
        self.phase(name);
        let done = fault.await?;
        self.goes_on().await?;
        Ok(done)
    }

    /// What is known so far.
    pub fn so_far(&self) -> Vec<Sent> {
        self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops it; what is on its way is awaited.
    pub async fn stop(mut self) -> Report {
        self.shared.enough.store(true, Ordering::Relaxed);
        while self.senders.join_next().await.is_some() {}
        let mut sent = self.so_far();
        sent.sort_by_key(|sent| sent.due);
        Report { phases: self.phases, bodies: self.shared.plan.bodies.clone(), sent }
    }
}

/// What became of a load.
#[derive(Debug)]
pub struct Report {
    phases: Vec<String>,
    bodies: Vec<(String, u64)>,
    /// By when they were due.
    pub sent: Vec<Sent>,
}

impl Report {
    /// Every request that failed, with its phase and why.
    pub fn failed(&self) -> Vec<String> {
        let told = |sent: &Sent| {
            let fault = sent.fault(&self.bodies)?;
            let Sent { due, took, sender, .. } = sent;
            let phase = &self.phases[sent.phase];
            Some(format!("{phase}: due at {due:.3?}, sender {sender}, after {took:.3?}: {fault}"))
        };
        self.sent.iter().filter_map(told).collect()
    }

    /// Fails unless every request got its prediction in time; prints what there was.
    #[expect(clippy::print_stdout, reason = "a case tells what it saw")]
    pub fn all_answered(&self, case: &str) -> Result<()> {
        print!("{case}\n{self}");
        let failed = self.failed();
        ensure!(
            failed.is_empty(),
            "{} of {} requests failed:\n{}",
            failed.len(),
            self.sent.len(),
            failed[..failed.len().min(20)].join("\n")
        );
        Ok(())
    }

    /// Fails unless all requests that failed were due within one time of this length; prints what there was.
    #[expect(clippy::print_stdout, reason = "a case tells what it saw")]
    pub fn all_answered_but_for(&self, case: &str, time: Duration) -> Result<()> {
        print!("{case}\n{self}");
        let due = || self.sent.iter().filter(|sent| sent.fault(&self.bodies).is_some()).map(|sent| sent.due);
        if let (Some(first), Some(last)) = (due().min(), due().max()) {
            let took = last.saturating_sub(first);
            println!("  {} failed within {took:.2?}", due().count());
            ensure!(took <= time, "requests failed for {took:?}:\n{}", self.failed().join("\n"));
        }
        Ok(())
    }

    /// Fails unless some request failed: what is switched off here is what keeps others from failing.
    #[expect(clippy::print_stdout, reason = "a case tells what it saw")]
    pub fn some_failed(&self, case: &str) -> Result<()> {
        print!("{case}\n{self}");
        ensure!(!self.failed().is_empty(), "no request of {} failed", self.sent.len());
        Ok(())
    }
}

impl Display for Report {
    /// One line for each phase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.phases.iter().enumerate() {
            let of_phase: Vec<_> = self.sent.iter().filter(|sent| sent.phase == place).collect();
            if of_phase.is_empty() {
                continue;
            }
            let failed = of_phase.iter().filter(|sent| sent.fault(&self.bodies).is_some()).count();
            let mut took: Vec<_> = of_phase.iter().map(|sent| sent.took).collect();
            took.sort();
            let (worst, p99) = (took[took.len() - 1], took[(took.len() - 1) * 99 / 100]);
            let count = of_phase.len();
            writeln!(f, "  {name}: {count} sent, {failed} failed, p99 {p99:.1?}, worst {worst:.1?}")?;
        }
        Ok(())
    }
}

/// Sends every so-and-so-many'th request, each when it is due, or as soon after as the one before is done.
async fn send_when_due(shared: Arc<Shared>, sender: usize) {
    let Plan { per_second, connections, bodies, .. } = &shared.plan;
    let period = Duration::from_secs(1) / *per_second;
    let of_sender = period * u32::try_from(*connections).unwrap_or(u32::MAX);
    let first = shared.start + period * u32::try_from(sender).unwrap_or(u32::MAX);
    // By itself it makes up for ticks that were missed: they come at once.
    let mut ticks = interval_at(first, of_sender);
    let (mut kept, mut number) = (None, sender);
    loop {
        let due = ticks.tick().await;
        if shared.enough.load(Ordering::Relaxed) {
            return;
        }
        let phase = shared.phase.load(Ordering::Relaxed);
        let began = shared.start.elapsed();
        if sender.is_multiple_of(2) {
            kept = None;
        }
        // Every sender sends each of the bodies.
        let body = (number / connections + number) % bodies.len();
        let asked = timeout(GIVEN_UP, shared.ask(&mut kept, &bodies[body].0)).await;
        let outcome = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {GIVEN_UP:?}")));
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
    /// Asks over the connection that is kept, if it still takes requests, or over a new one.
    async fn ask(&self, kept: &mut Option<SendRequest<Full<Bytes>>>, body: &str) -> Result<Answer> {
        let mut open = None;
        if let Some(mut before) = kept.take() {
            // A server that has closed it did so without a request on it: nothing is sent twice.
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
        // It ends with the sender; what breaks it is told to whoever waits for an answer.
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

    /// A load on a server that answers like a gateway, but for what `answer` makes of the number of the request.
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
        let told = load.stop().await;
        told.all_answered("all").unwrap();
        assert!(told.some_failed("all").is_err());
        let of = |phase: usize| told.sent.iter().filter(|sent| sent.phase == phase).count();
        assert!(of(1) >= PHASE_MIN && of(2) >= PHASE_MIN, "{told}");
        for body in 0..2 {
            assert!(told.sent.iter().any(|sent| sent.sender == 3 && sent.body == body), "{told}");
        }
        let last = told.sent.last().unwrap().due.as_secs_f64();
        let rate = told.sent.len() as f64 / last;
        assert!((900.0..1100.0).contains(&rate), "{rate}");
    }

    #[tokio::test]
    async fn a_wrong_class_and_a_refusal_are_failures() {
        let mut load = load(|number| match number % 100 {
            50 => (StatusCode::OK, r#"{"prediction":{"class":0}}"#),
            51 => (StatusCode::SERVICE_UNAVAILABLE, "no"),
            _ => RIGHT,
        })
        .await;
        load.calm("calm").await.unwrap();
        let told = load.stop().await;
        let failed = told.failed();
        assert!(failed.iter().any(|line| line.ends_with("class Some(0) instead of 1")), "{failed:?}");
        assert!(failed.iter().any(|line| line.ends_with("503: no")), "{failed:?}");
        assert!((20..=failed.len()).contains(&failed.len()), "{failed:?}");
        assert!(told.all_answered("some").is_err());
        told.some_failed("some").unwrap();
    }

    #[tokio::test]
    async fn who_is_not_there_fails_every_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plan = Plan::predictions(listener.local_addr().unwrap(), "m", &[(&[1.0], 1)]);
        drop(listener);
        plan.per_second = 2000;
        let mut load = Load::start(plan).unwrap();
        load.calm("calm").await.unwrap();
        let told = load.stop().await;
        assert_eq!(told.failed().len(), told.sent.len());
        assert!(told.failed()[0].contains("no connection"), "{}", told.failed()[0]);
    }
}
