//! The load generator: it measures latencies, and the CPU and memory of the servers during the same time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::call::{Call, Question};
use crate::client::Connection;
use crate::latency::percentiles;
use crate::results::{Cost, Load, Shape, Subject};
use crate::server::Server;
use crate::ticker::Ticker;
use crate::usage::{Usage, of_this_process};

/// How long an open loop waits for responses after the last request was due.
const GRACE: Duration = Duration::from_secs(1);

/// Lengths of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Time before the measurement, under the same load.
    pub(crate) warm_up: Duration,
    /// Time of the measurement.
    pub(crate) measured: Duration,
}

/// Sends load to the first of `servers` and measures all of them.
pub(crate) async fn run(
    subject: Subject,
    call: &Call,
    shape: Shape,
    times: Times,
    servers: &[Server],
) -> Result<Load> {
    let tally = Rc::new(Tally::default());
    let counted = match shape {
        Shape::Closed { connections } => closed(call, connections, times, servers, &tally).await?,
        Shape::Open { per_second, connections } => {
            let pace = Pace::new(per_second, times);
            open(call, connections, pace, servers, &tally).await?
        }
    };
    ensure!(
        counted.answered > 0,
        "{subject:?} returned no correct response; first failure: {}",
        tally.first_failure.borrow().as_deref().unwrap_or("none")
    );
    Ok(Load {
        subject,
        shape,
        seconds: counted.took.as_secs_f64(),
        answered: counted.answered,
        failed: tally.failed.get(),
        first_failure: tally.first_failure.take(),
        unanswered: counted.unanswered,
        latency_us: percentiles(tally.latencies.take()),
        servers: counted.servers,
        generator_cpu_seconds: counted.generator.as_secs_f64(),
    })
}

/// The counts of all connections of a run, which share one thread.
#[derive(Default)]
struct Tally {
    /// Whether the measurement has begun and has not ended.
    counts: Cell<bool>,
    answered: Cell<u64>,
    failed: Cell<u64>,
    first_failure: RefCell<Option<String>>,
    /// In nanoseconds. In an open loop one for each request in the order they are due, [`u64::MAX`] without a response.
    latencies: RefCell<Vec<u64>>,
}

impl Tally {
    fn answered(&self) {
        if self.counts.get() {
            self.answered.set(self.answered.get() + 1);
        }
    }

    fn failed(&self, error: &anyhow::Error) {
        self.failed.set(self.failed.get() + 1);
        self.first_failure.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
    }
}

/// The results of the time of measurement.
struct Counted {
    took: Duration,
    answered: u64,
    unanswered: u64,
    servers: Vec<Cost>,
    generator: Duration,
}

/// The start of the measurement.
struct Opening {
    at: Instant,
    servers: Vec<Usage>,
    generator: Duration,
}

impl Opening {
    fn now(servers: &[Server], tally: &Tally) -> Result<Self> {
        let used = servers.iter().map(Server::usage).collect::<Result<_>>()?;
        tally.counts.set(true);
        Ok(Self { servers: used, generator: of_this_process()?, at: Instant::now() })
    }

    fn close(self, servers: &[Server], tally: &Tally) -> Result<Counted> {
        tally.counts.set(false);
        let took = self.at.elapsed();
        let cost = |(server, before): (&Server, Usage)| {
            let after = server.usage()?;
            let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            let kernel_seconds = after.kernel.saturating_sub(before.kernel).as_secs_f64();
            let name = server.name().to_owned();
            Ok(Cost { name, cpu_seconds, kernel_seconds, resident_kib: after.resident, peak_kib: after.peak })
        };
        Ok(Counted {
            took,
            answered: tally.answered.get(),
            unanswered: 0,
            servers: servers.iter().zip(self.servers).map(cost).collect::<Result<_>>()?,
            generator: of_this_process()?.saturating_sub(self.generator),
        })
    }
}

async fn closed(
    call: &Call,
    connections: usize,
    times: Times,
    servers: &[Server],
    tally: &Rc<Tally>,
) -> Result<Counted> {
    let mut senders = JoinSet::new();
    for first in 0..connections {
        senders.spawn_local(send_repeatedly(call.clone(), first, Rc::clone(tally)));
    }
    sleep(times.warm_up).await;
    let opening = Opening::now(servers, tally)?;
    sleep(times.measured).await;
    let counted = opening.close(servers, tally)?;
    senders.shutdown().await;
    Ok(counted)
}

async fn send_repeatedly(call: Call, first: usize, tally: Rc<Tally>) {
    let mut connection = None;
    for question in call.questions.iter().cycle().skip(first % call.questions.len()) {
        let sent = Instant::now();
        match attempt(&mut connection, &call, question).await {
            Ok(()) if tally.counts.get() => {
                tally.answered();
                tally.latencies.borrow_mut().push(nanoseconds(sent.elapsed()));
            }
            Ok(()) => {}
            Err(error) => {
                tally.failed(&error);
                yield_now().await;
            }
        }
    }
}

/// Sends a request over the existing connection or a new one. A connection that failed is not used again.
async fn attempt(connection: &mut Option<Connection>, call: &Call, question: &Question) -> Result<()> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(call.address).await?,
    };
    open.ask(call, question).await?;
    *connection = Some(open);
    Ok(())
}

/// The schedule of an open loop.
#[derive(Clone, Copy)]
struct Pace {
    period: Duration,
    /// Number of requests that are due before the measurement.
    before: usize,
    /// Number of all requests.
    total: usize,
}

impl Pace {
    fn new(per_second: u32, times: Times) -> Self {
        let due = |within: Duration| within.as_millis() as usize * per_second as usize / 1000;
        let before = due(times.warm_up);
        Self { period: Duration::from_secs(1) / per_second, before, total: before + due(times.measured) }
    }

    fn due(self, start: Instant, request: usize) -> Instant {
        start + self.period * u32::try_from(request + 1).unwrap_or(u32::MAX)
    }
}

/// The queue of an open loop, which all of its connections share.
struct Queue {
    pace: Pace,
    start: Instant,
    /// One permit for each request that is due and was not sent.
    due: Semaphore,
    taken: Cell<usize>,
}

async fn open(
    call: &Call,
    connections: usize,
    pace: Pace,
    servers: &[Server],
    tally: &Rc<Tally>,
) -> Result<Counted> {
    tally.latencies.replace(vec![u64::MAX; pace.total]);
    let queue = Rc::new(Queue { pace, start: Instant::now(), due: Semaphore::new(0), taken: Cell::new(0) });
    let ticker = Ticker::start(pace.period).context("failed to start a timer")?;
    let mut release = Release { ticker, queue: Rc::clone(&queue), passed: 0, released: 0 };
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        senders.spawn_local(ask_when_due(call.clone(), Rc::clone(&queue), Rc::clone(tally)));
    }
    release.until(pace.before).await?;
    let opening = Opening::now(servers, tally)?;
    release.until(pace.total).await?;
    let mut counted = opening.close(servers, tally)?;

    queue.due.add_permits(connections);
    // Connections that have not finished in time are closed below.
    drop(timeout(GRACE, async { while senders.join_next().await.is_some() {} }).await);
    senders.shutdown().await;
    let end = Instant::now();
    let mut latencies = tally.latencies.borrow_mut();
    for (request, latency) in latencies.iter_mut().enumerate().filter(|(_, latency)| **latency == u64::MAX) {
        *latency = nanoseconds(end.saturating_duration_since(pace.due(queue.start, request)));
        counted.unanswered += u64::from(request >= pace.before);
    }
    latencies.drain(..pace.before);
    drop(latencies);
    Ok(counted)
}

/// Releases requests when they are due.
struct Release {
    ticker: Ticker,
    queue: Rc<Queue>,
    passed: usize,
    released: usize,
}

impl Release {
    /// Waits until the first `count` requests are due.
    async fn until(&mut self, count: usize) -> Result<()> {
        while self.released < count {
            self.passed += usize::try_from(self.ticker.passed().await?)?;
            let due = self.passed.min(count);
            self.queue.due.add_permits(due - self.released);
            self.released = due;
        }
        Ok(())
    }
}

async fn ask_when_due(call: Call, queue: Rc<Queue>, tally: Rc<Tally>) {
    let mut connection = None;
    while let Ok(permit) = queue.due.acquire().await {
        permit.forget();
        let request = queue.taken.replace(queue.taken.get() + 1);
        if request >= queue.pace.total {
            return;
        }
        let question = &call.questions[request % call.questions.len()];
        match attempt(&mut connection, &call, question).await {
            Ok(()) => {
                tally.answered();
                let took = queue.pace.due(queue.start, request).elapsed();
                tally.latencies.borrow_mut()[request] = nanoseconds(took);
            }
            Err(error) => tally.failed(&error),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::get;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    const TIMES: Times = Times { warm_up: Duration::from_millis(100), measured: Duration::from_millis(400) };

    /// Measures a server that responds after `delay`.
    async fn measure(delay: Duration, answer: &str, shape: Shape) -> Result<Load> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        let router = Router::new().route(
            "/",
            get(async move || {
                sleep(delay).await;
                "yes"
            }),
        );
        let call = Call::get(address, "/", answer);
        let measured = async {
            spawn_local(async { axum::serve(listener, router).await });
            run(Subject::Baseline, &call, shape, TIMES, &[]).await
        };
        LocalSet::new().run_until(measured).await
    }

    #[tokio::test]
    async fn a_closed_loop_sends_the_next_request_after_the_response() {
        let delay = Duration::from_millis(10);
        let load = measure(delay, "yes", Shape::Closed { connections: 4 }).await.unwrap();
        assert!(load.latency_us.p50 >= 10_000.0, "{load:?}");
        assert!((4..=4 * 45).contains(&load.answered), "{load:?}");
        assert_eq!((load.failed, load.unanswered), (0, 0), "{load:?}");
    }

    #[tokio::test]
    async fn an_open_loop_sends_at_its_rate() {
        let shape = Shape::Open { per_second: 500, connections: 8 };
        let load = measure(Duration::ZERO, "yes", shape).await.unwrap();
        assert!((100..=300).contains(&load.answered), "{load:?}");
        assert_eq!((load.failed, load.unanswered), (0, 0), "{load:?}");
    }

    #[tokio::test]
    async fn an_open_loop_counts_latency_from_the_due_time() {
        let shape = Shape::Open { per_second: 500, connections: 1 };
        let load = measure(Duration::from_millis(50), "yes", shape).await.unwrap();
        assert!(load.answered < 20, "{load:?}");
        assert!(load.unanswered > 150, "{load:?}");
        assert!(
            load.latency_us.p50 > 1_000_000.0,
            "expected half of the requests to wait until the end: {load:?}"
        );
    }

    #[tokio::test]
    async fn an_incorrect_response_is_a_failure() {
        let shape = Shape::Open { per_second: 500, connections: 8 };
        let error = measure(Duration::ZERO, "no", shape).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "Baseline returned no correct response; first failure: expected 200 with no, got 200 OK yes; \
             the body of the request was \"\""
        );
    }
}
