//! What this program can be told.
//!
//! Comes in: the command line. Goes out: values of the right shape. Never: a look at whether what they name exists.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::load::Times;
use crate::measure::Effort;
use crate::results::{Shape, Subject};

/// Measures Canopy beside its peers; `bench/run` builds and installs what that needs.
#[derive(clap::Parser)]
pub(crate) enum Arguments {
    /// Measures everything, and writes the results and the tables of the README.
    All(All),
    /// Writes the tables of the README again, from results that there are.
    Report(Report),
    /// Puts load on a server that runs already, and prints what came of it as JSON.
    Load(Load),
    /// Measures the CPU of requests and prints its ratios to that of the bare server, within one run.
    Floor(Floor),
    /// Answers predictions with as little as possible, to be measured against.
    Baseline(Baseline),
    /// Measures what counting rows for drift costs, and prints the lines of its table.
    Drift(Drift),
    /// Measures what metrics, traces and records cost, and prints the lines of their table.
    Observed(Observed),
}

/// Where everything is, and how thoroughly to measure it.
#[derive(clap::Args)]
pub(crate) struct All {
    /// The folder of Canopy's programs, as they are in images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: PathBuf,
    /// A Python that has the packages of bench/peers/requirements.txt
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: PathBuf,
    /// The bare server: this program, built with the profile `floor`; this program as it is if absent
    #[arg(long, value_name = "PROGRAM")]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    spans: Spans,
    /// How often to start each server
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    starts: usize,
    /// With how many seeds to train each forest
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    seeds: u64,
    #[command(flatten)]
    pub(crate) report: Report,
}

impl All {
    /// The program of the bare server.
    pub(crate) fn baseline(&self) -> Result<PathBuf> {
        or_this_program(self.baseline.as_deref())
    }

    /// How thoroughly to measure.
    pub(crate) fn effort(&self) -> Effort {
        Effort { times: self.spans.times(), starts: self.starts, seeds: self.seeds }
    }
}

/// Where figures are kept and where they are told.
#[derive(clap::Args)]
pub(crate) struct Report {
    /// The results
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/laptop.json"))]
    pub(crate) results: PathBuf,
    /// The text with places for the figures
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))]
    pub(crate) readme: PathBuf,
}

/// One load.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// What listens there, which decides what is asked
    pub(crate) subject: Subject,
    /// The address it listens on
    pub(crate) address: SocketAddr,
    /// Over how many connections
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    connections: usize,
    /// How many requests are due in a second; without it, each connection asks as soon as it is answered
    #[arg(long, value_name = "PER SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    #[command(flatten)]
    spans: Spans,
}

impl Load {
    /// How requests follow each other.
    pub(crate) fn shape(&self) -> Shape {
        match self.rate {
            None => Shape::Closed { connections: self.connections },
            Some(per_second) => Shape::Open { per_second, connections: self.connections },
        }
    }

    /// For how long.
    pub(crate) fn times(&self) -> Times {
        self.spans.times()
    }
}

/// For how long.
#[derive(clap::Args)]
struct Spans {
    /// How long to measure each load
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// How long to warm up before that
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warm_up: u64,
}

impl Spans {
    fn times(&self) -> Times {
        Times { warm_up: Duration::from_secs(self.warm_up), measured: Duration::from_secs(self.seconds) }
    }
}

/// How thoroughly to measure.
#[derive(clap::Args)]
pub(crate) struct Drift {
    /// How many rounds, of 4000 rows each, to take the median of
    #[arg(long, value_name = "COUNT", default_value = "101")]
    pub(crate) rounds: NonZeroUsize,
}

/// Where Canopy's programs are, and how thoroughly to measure them.
#[derive(clap::Args)]
pub(crate) struct Observed {
    /// The folder of Canopy's programs, as they are in images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: PathBuf,
    /// How many rounds to take the median of
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    spans: Spans,
}

impl Observed {
    /// For how long.
    pub(crate) fn times(&self) -> Times {
        self.spans.times()
    }
}

/// The programs to compare with the bare server.
#[derive(clap::Args)]
pub(crate) struct Floor {
    /// The folder of Canopy's programs, as they are in images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: PathBuf,
    /// The bare server: this program, built with the profile `floor`; this program as it is if absent
    #[arg(long, value_name = "PROGRAM")]
    baseline: Option<PathBuf>,
    /// The number of rounds; the median is printed
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    spans: Spans,
}

impl Floor {
    /// The program of the bare server.
    pub(crate) fn baseline(&self) -> Result<PathBuf> {
        or_this_program(self.baseline.as_deref())
    }

    /// For how long.
    pub(crate) fn times(&self) -> Times {
        self.spans.times()
    }
}

fn or_this_program(baseline: Option<&Path>) -> Result<PathBuf> {
    match baseline {
        Some(path) => {
            std::fs::canonicalize(path).with_context(|| format!("failed to find {}", path.display()))
        }
        None => std::env::current_exe().context("failed to find this program"),
    }
}

/// Where the bare server listens.
#[derive(clap::Args)]
pub(crate) struct Baseline {
    /// The address to listen on
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// How many threads answer
    #[arg(long)]
    pub(crate) workers: usize,
}
