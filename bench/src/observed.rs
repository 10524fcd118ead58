//! What it costs to be observed: the same load on the same servers, observed in one manner after the other.
//!
//! Comes in: where programs are, and how thoroughly. Goes out: microseconds of CPU for a request, by manner, and what
//! became of what was observed. Never: a figure from a round in which not every manner was measured.

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use canopy_contract::serving::{Data, Synthetic};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use crate::latency::median;
use crate::load::{self, Times};
use crate::metrics::{ANSWERED, DROPPED, scrape, sum};
use crate::results::{Shape, Subject};
use crate::server::{Server, free_address};
use crate::start::first_answer;
use crate::subjects::{Workplace, call};

const LOAD: Shape = Shape::Closed { connections: 32 };
/// In which way servers are observed.
struct Manner {
    title: &'static str,
    /// The share of requests that are traced.
    traced: Option<&'static str>,
    is_recorded: bool,
    is_scraped: bool,
}

const MANNERS: [Manner; 5] = [
    Manner { title: "metrics", traced: None, is_recorded: false, is_scraped: false },
    Manner { title: "metrics, scraped every second", traced: None, is_recorded: false, is_scraped: true },
    Manner {
        title: "metrics, 1 of 100 requests traced",
        traced: Some("0.01"),
        is_recorded: false,
        is_scraped: false,
    },
    Manner {
        title: "metrics, every request traced",
        traced: Some("1"),
        is_recorded: false,
        is_scraped: false,
    },
    Manner { title: "metrics, answers recorded", traced: None, is_recorded: true, is_scraped: false },
];

/// What one manner costs.
pub(crate) struct Found {
    title: &'static str,
    per_second: f64,
    /// Microseconds of CPU for a request.
    gateway: f64,
    predictor: f64,
    /// By how much that is more than with metrics alone, as a share of it.
    more: f64,
    /// How many bytes of traces came for each request.
    traced_bytes: f64,
    /// The share of answers that were recorded.
    recorded: Option<f64>,
}

/// One round of one manner.
struct Round {
    per_second: f64,
    gateway: f64,
    predictor: f64,
    traced_bytes: f64,
    recorded: Option<f64>,
}

/// Measures every manner in so many rounds.
pub(crate) async fn measure(workplace: &Workplace, times: Times, rounds: usize) -> Result<Vec<Found>> {
    workplace.prepare_canopy(Data::Synthetic(Synthetic { samples: 1000, features: 4, seed: 42 }))?;
    let collector = Collector::start()?;
    let mut found = MANNERS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (manner, rounds) in MANNERS.iter().zip(&mut found) {
            rounds.push(one(workplace, manner, &collector, times).await.context(manner.title)?);
        }
    }
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let least = middle(&found[0], |round| round.gateway + round.predictor);
    let summed = MANNERS.iter().zip(&found).map(|(manner, rounds)| Found {
        title: manner.title,
        per_second: middle(rounds, |round| round.per_second),
        gateway: middle(rounds, |round| round.gateway),
        predictor: middle(rounds, |round| round.predictor),
        more: middle(rounds, |round| round.gateway + round.predictor) / least - 1.0,
        traced_bytes: middle(rounds, |round| round.traced_bytes),
        recorded: manner.is_recorded.then(|| middle(rounds, |round| round.recorded.unwrap_or_default())),
    });
    Ok(summed.collect())
}

async fn one(workplace: &Workplace, manner: &Manner, collector: &Collector, times: Times) -> Result<Round> {
    let [predictor, predictor_admin, gateway, admin] =
        [free_address()?, free_address()?, free_address()?, free_address()?];
    let folder = tempfile::tempdir_in(&workplace.scratch)?;
    let database = folder.path().join("canopy.db");
    let traced = |mut command: Command| {
        if let Some(share) = manner.traced {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address));
            command
                .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
                .env("OTEL_TRACES_SAMPLER_ARG", share);
        }
        command
    };
    let mut behind = traced(workplace.predictor(predictor, predictor_admin));
    let first = call(Subject::Predictor, predictor);
    let (behind, _) = first_answer(&first, || Server::start("predictor", &mut behind)).await?;
    let mut front = traced(workplace.gateway(gateway, admin, predictor));
    front.args(["--database-url", &format!("sqlite://{}", database.display())]);
    front.args(["--record-ratio", if manner.is_recorded { "1" } else { "0" }]);
    let asked = call(Subject::Gateway, gateway);
    let (front, _) = first_answer(&asked, || Server::start("gateway", &mut front)).await?;

    let bytes_before = collector.bytes();
    let scraping = manner.is_scraped.then(|| spawn_local(scrape_every_second([admin, predictor_admin])));
    let servers = [front, behind];
    let load = load::run(Subject::Gateway, &asked, LOAD, times, &servers).await?;
    if let Some(scraping) = scraping {
        scraping.abort();
    }
    ensure!(load.failed == 0, "{} requests failed: {:?}", load.failed, load.first_failure);
    let [answered, dropped] = [ANSWERED, DROPPED].map(|name| async move { sum(&scrape(admin).await?, name) });
    let (answered, dropped) = (answered.await?, dropped.await?);
    let cpu = |server: usize| load.cpu_us_of(&load.servers[server]);
    let round = Round {
        per_second: load.per_second(),
        gateway: cpu(0),
        predictor: cpu(1),
        traced_bytes: (collector.bytes() - bytes_before) as f64 / answered,
        recorded: manner.is_recorded.then_some(1.0 - dropped / answered),
    };
    for server in servers {
        server.end().await?;
    }
    Ok(round)
}

/// Asks for the metrics of both, as a Prometheus in a hurry does.
async fn scrape_every_second(admins: [SocketAddr; 2]) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        for admin in admins {
            // Whoever ends meanwhile is told of by the load.
            drop(scrape(admin).await);
        }
    }
}

/// Where traces go: it reads them and keeps none.
struct Collector {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Collector {
    /// Starts one on a thread of its own, until the process ends.
    fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("failed to listen for traces")?;
        listener.set_nonblocking(true)?;
        let collector = Self { address: listener.local_addr()?, bytes: Arc::default() };
        let bytes = collector.bytes.clone();
        let traces = async move |body: Bytes| {
            bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                axum::serve(listener, Router::new().route("/v1/traces", post(traces))).await
            })
        });
        Ok(collector)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Found {
    /// A line of the table in `README.md`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, per_second, gateway, predictor, more, traced_bytes, recorded } = self;
        let sum = gateway + predictor;
        write!(
            f,
            "| {title} | {per_second:.0} | {gateway:.1} + {predictor:.1} = {sum:.1} | {:+.1} % | ",
            more * 100.0
        )?;
        if *traced_bytes > 0.0 {
            write!(f, "{traced_bytes:.0}")?;
        }
        write!(f, " | ")?;
        if let Some(recorded) = recorded {
            write!(f, "{:.1} %", recorded * 100.0)?;
        }
        write!(f, " |")
    }
}
