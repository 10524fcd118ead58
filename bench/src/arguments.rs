//! The command line. Values are parsed; whether the files exist is checked by the commands.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::load::Times;
use crate::measure::Effort;
use crate::results::{Shape, Subject};

/// Measures Canopy and other servers; `bench/run` builds and installs what this needs.
#[derive(clap::Parser)]
pub(crate) enum Arguments {
    /// Measures everything but `floor`, and writes the results and the tables of the README.
    All(All),
    /// Writes the tables again from existing results.
    Report(Report),
    /// Sends load to a running server, and prints the results as JSON.
    Load(Load),
    /// Measures CPU per request beside the bare server, and writes the ratios.
    Floor(Floor),
    /// Measures model files of other libraries beside those libraries, and writes the results and the tables.
    Models(Models),
    /// Measures one model file, and prints the figures as JSON.
    Model(Model),
    /// Runs the bare server, with which other servers are compared.
    Baseline(Baseline),
    /// Measures the cost of counting rows for drift, and prints the rows of its table.
    Drift(Drift),
    /// Measures the cost of metrics, traces and recording, and prints the rows of the table.
    Observed(Observed),
}

/// Options of `all`.
#[derive(clap::Args)]
pub(crate) struct All {
    /// Folder with Canopy's programs, built as for images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: PathBuf,
    /// Python with the packages of bench/peers/requirements.txt
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: PathBuf,
    #[command(flatten)]
    spans: Spans,
    /// Number of starts of each server
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    starts: usize,
    /// Number of seeds with which each forest is trained
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    seeds: u64,
    #[command(flatten)]
    pub(crate) report: Report,
}

impl All {
    /// The amount of measurements.
    pub(crate) fn effort(&self) -> Effort {
        Effort { times: self.spans.times(), starts: self.starts, seeds: self.seeds }
    }
}

/// The files of results and tables.
#[derive(clap::Args)]
pub(crate) struct Report {
    /// Results of `all`
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/laptop.json"))]
    pub(crate) results: PathBuf,
    /// Results of `floor`
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/floor.json"))]
    pub(crate) floor_results: PathBuf,
    /// Results of `models`
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/models.json"))]
    pub(crate) model_results: PathBuf,
    /// Page with the tables
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))]
    pub(crate) readme: PathBuf,
    /// Page with the summary of `floor`
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))]
    pub(crate) front_page: PathBuf,
}

/// Options of `load`.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// The kind of server, which decides the requests
    pub(crate) subject: Subject,
    /// Address of the server
    pub(crate) address: SocketAddr,
    /// Number of connections
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    connections: usize,
    /// Requests per second; without it, each connection sends the next request after the response
    #[arg(long, value_name = "PER SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    #[command(flatten)]
    spans: Spans,
}

impl Load {
    /// The pattern of requests.
    pub(crate) fn shape(&self) -> Shape {
        match self.rate {
            None => Shape::Closed { connections: self.connections },
            Some(per_second) => Shape::Open { per_second, connections: self.connections },
        }
    }

    /// The lengths of the measurement.
    pub(crate) fn times(&self) -> Times {
        self.spans.times()
    }
}

/// Lengths of a measurement.
#[derive(clap::Args)]
struct Spans {
    /// Length of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Length of the warm-up before it
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warm_up: u64,
}

impl Spans {
    fn times(&self) -> Times {
        Times { warm_up: Duration::from_secs(self.warm_up), measured: Duration::from_secs(self.seconds) }
    }
}

/// Options of `drift`.
#[derive(clap::Args)]
pub(crate) struct Drift {
    /// Number of rounds of 4000 rows each; the median is printed
    #[arg(long, value_name = "COUNT", default_value = "101")]
    pub(crate) rounds: NonZeroUsize,
}

/// Options of `observed`.
#[derive(clap::Args)]
pub(crate) struct Observed {
    /// Folder with Canopy's programs, built as for images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: PathBuf,
    /// Number of rounds; the median is printed
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    spans: Spans,
}

impl Observed {
    /// The lengths of the measurement.
    pub(crate) fn times(&self) -> Times {
        self.spans.times()
    }
}

/// Options of `floor`. The bare server is this program, which `bench/run` builds with the profile `floor`.
#[derive(clap::Args)]
pub(crate) struct Floor {
    /// Folder with Canopy's programs, built as for images
    #[arg(long, value_name = "FOLDER")]
    pub(crate) programs: PathBuf,
    /// Number of rounds; the median of their ratios is written
    #[arg(long, value_name = "COUNT", default_value = "5")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    spans: Spans,
    #[command(flatten)]
    pub(crate) report: Report,
}

impl Floor {
    /// The lengths of the measurement.
    pub(crate) fn times(&self) -> Times {
        self.spans.times()
    }
}

/// Options of `models`.
#[derive(clap::Args)]
pub(crate) struct Models {
    /// Python with the packages of bench/peers/models.txt
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) python: PathBuf,
    /// Number of rounds; the median is written
    #[arg(long, value_name = "COUNT", default_value = "3")]
    pub(crate) rounds: NonZeroUsize,
    #[command(flatten)]
    pub(crate) report: Report,
}

/// Options of `model`.
#[derive(clap::Args)]
pub(crate) struct Model {
    /// A model file of another library or of Canopy
    pub(crate) file: PathBuf,
    /// JSON with the rows that are predicted; without it 100 rows of zeros
    #[arg(long, value_name = "FILE")]
    pub(crate) rows: Option<PathBuf>,
    /// Writes the artifact that is made of the file
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

/// Options of `baseline`.
#[derive(clap::Args)]
pub(crate) struct Baseline {
    /// Address to listen on
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Number of threads
    #[arg(long)]
    pub(crate) workers: usize,
}
