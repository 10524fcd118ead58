//! The cost of observability: the same load on the same servers, with different observability settings in turn.

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

/// Observability settings.
struct Setting {
    title: &'static str,
    /// The ratio of traced requests.
    traced: Option<&'static str>,
    is_recorded: bool,
    is_scraped: bool,
}

const SETTINGS: [Setting; 5] = [
    Setting { title: "metrics", traced: None, is_recorded: false, is_scraped: false },
    Setting { title: "metrics, scraped every second", traced: None, is_recorded: false, is_scraped: true },
    Setting {
        title: "metrics, 1 of 100 requests traced",
        traced: Some("0.01"),
        is_recorded: false,
        is_scraped: false,
    },
    Setting {
        title: "metrics, every request traced",
        traced: Some("1"),
        is_recorded: false,
        is_scraped: false,
    },
    Setting { title: "metrics, answers recorded", traced: None, is_recorded: true, is_scraped: false },
];

/// Results for one setting, as medians of all rounds.
pub(crate) struct Found {
    title: &'static str,
    per_second: f64,
    /// Microseconds of CPU per request.
    gateway: f64,
    predictor: f64,
    /// The relative difference from the CPU with metrics alone.
    more: f64,
    /// Bytes of traces per request.
    traced_bytes: f64,
    /// The share of predictions that were recorded.
    recorded: Option<f64>,
}

/// One round of one setting.
struct Round {
    per_second: f64,
    gateway: f64,
    predictor: f64,
    traced_bytes: f64,
    recorded: Option<f64>,
}

/// Measures every setting in each round.
pub(crate) async fn measure(workplace: &Workplace, times: Times, rounds: usize) -> Result<Vec<Found>> {
    workplace.prepare_canopy(Data::Synthetic(Synthetic { samples: 1000, features: 4, seed: 42 }))?;
    let collector = Collector::start()?;
    let mut found = SETTINGS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (setting, rounds) in SETTINGS.iter().zip(&mut found) {
            rounds.push(one(workplace, setting, &collector, times).await.context(setting.title)?);
        }
    }
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let least = middle(&found[0], |round| round.gateway + round.predictor);
    let summed = SETTINGS.iter().zip(&found).map(|(setting, rounds)| Found {
        title: setting.title,
        per_second: middle(rounds, |round| round.per_second),
        gateway: middle(rounds, |round| round.gateway),
        predictor: middle(rounds, |round| round.predictor),
        more: middle(rounds, |round| round.gateway + round.predictor) / least - 1.0,
        traced_bytes: middle(rounds, |round| round.traced_bytes),
        recorded: setting.is_recorded.then(|| middle(rounds, |round| round.recorded.unwrap_or_default())),
    });
    Ok(summed.collect())
}

async fn one(workplace: &Workplace, setting: &Setting, collector: &Collector, times: Times) -> Result<Round> {
    let [predictor, predictor_admin, gateway, admin] =
        [free_address()?, free_address()?, free_address()?, free_address()?];
    let folder = tempfile::tempdir_in(&workplace.scratch)?;
    let database = folder.path().join("canopy.db");
    let traced = |mut command: Command| {
        if let Some(share) = setting.traced {
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
    front.args(["--record-ratio", if setting.is_recorded { "1" } else { "0" }]);
    let asked = call(Subject::Gateway, gateway);
    let (front, _) = first_answer(&asked, || Server::start("gateway", &mut front)).await?;

    let bytes_before = collector.bytes();
    let scraping = setting.is_scraped.then(|| spawn_local(scrape_every_second([admin, predictor_admin])));
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
        recorded: setting.is_recorded.then_some(1.0 - dropped / answered),
    };
    for server in servers {
        server.end().await?;
    }
    Ok(round)
}

/// Scrapes both servers, more often than Prometheus does by default.
async fn scrape_every_second(admins: [SocketAddr; 2]) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        for admin in admins {
            // If a server ends, its requests fail.
            drop(scrape(admin).await);
        }
    }
}

/// A collector that discards traces.
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
    /// A row of the table in `README.md`.
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
