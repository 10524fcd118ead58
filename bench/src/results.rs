//! The figures of a run, as they are stored as JSON. Only measured figures are stored; ratios and sums are computed from them.

use serde::{Deserialize, Serialize};

use crate::latency::Percentiles;

/// The results of `canopy-bench all`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) load: Vec<Load>,
    pub(crate) start: Vec<Start>,
    pub(crate) training: Vec<Training>,
    pub(crate) size: Vec<Size>,
}

/// The results of `canopy-bench floor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FloorResults {
    pub(crate) machine: Machine,
    /// In each round, every server was measured once.
    pub(crate) rounds: Vec<Vec<RequestCost>>,
}

/// The results of `canopy-bench models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelResults {
    pub(crate) machine: Machine,
    pub(crate) models: Vec<ModelRounds>,
}

/// One model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRounds {
    /// The name of the file.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) rounds: Vec<ModelRound>,
}

/// The figures of one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelRound {
    /// Canopy with the file.
    pub(crate) imported: ModelCost,
    /// Canopy with the artifact that it made of the file; absent where classes would have to be declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loaded: Option<ModelCost>,
    /// The library that made the file, or onnxruntime.
    pub(crate) library: LibraryCost,
    /// tract with a neural network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tract: Option<Tract>,
}

/// What a model costs Canopy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelCost {
    /// From the file to the first answer.
    pub(crate) load_ms: f64,
    /// Resident memory that was added until then.
    pub(crate) resident_kib: u64,
    /// A row, in calls with one row.
    pub(crate) single_us: f64,
    /// A row, in calls with 100 rows.
    pub(crate) hundred_us: f64,
}

/// What a model costs its library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LibraryCost {
    pub(crate) library: String,
    pub(crate) version: String,
    pub(crate) load_ms: f64,
    pub(crate) single_us: f64,
    pub(crate) hundred_us: f64,
}

/// What a neural network costs tract, or why tract refuses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Tract {
    Measured(TractCost),
    Refused { refused: String },
}

/// What a neural network costs tract.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TractCost {
    /// Whether the network was loaded once for any number of rows; else once for 1 row and once for 100 rows.
    pub(crate) any_rows: bool,
    pub(crate) load_ms: f64,
    pub(crate) single_us: f64,
    pub(crate) hundred_us: f64,
}

/// The CPU of a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestCost {
    pub(crate) subject: Subject,
    /// Microseconds, of all processes that serve the request.
    pub(crate) cpu_us: f64,
}

/// The machine and the versions of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    pub(crate) system: String,
    pub(crate) kernel: String,
    /// The load average of the minute before the run.
    pub(crate) load_before: f64,
    pub(crate) versions: Vec<Version>,
}

/// The version of a compiler, a peer or a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A server, or a chain of servers, that returns predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// A bare axum server that parses the same JSON and adds two numbers.
    Baseline,
    /// nginx in front of it.
    Nginx,
    /// Canopy's predictor.
    Predictor,
    /// Canopy's gateway in front of it.
    Gateway,
    /// The same model in Python: scikit-learn behind uvicorn.
    FastApi,
}

impl Subject {
    /// Its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Baseline => "bare axum server",
            Self::Nginx => "nginx in front of the bare axum server",
            Self::Predictor => "Canopy's predictor",
            Self::Gateway => "Canopy's gateway in front of the predictor",
            Self::FastApi => "FastAPI + scikit-learn",
        }
    }
}

/// The pattern of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// Each connection sends the next request after the response.
    Closed { connections: usize },
    /// Requests are due at a fixed rate, independent of responses.
    Open { per_second: u32, connections: usize },
}

/// One subject under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) subject: Subject,
    pub(crate) shape: Shape,
    /// The length of the measurement.
    pub(crate) seconds: f64,
    /// Correct responses within that time.
    pub(crate) answered: u64,
    /// Wrong responses and lost connections, including those during the warm-up.
    pub(crate) failed: u64,
    /// The first of these failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_failure: Option<String>,
    /// Requests that were due but had no response when the measurement ended.
    pub(crate) unanswered: u64,
    /// In an open loop, from the time when the request was due; without a response, until the end of the measurement.
    pub(crate) latency_us: Percentiles,
    pub(crate) servers: Vec<Cost>,
    /// Seconds of CPU of the load generator.
    pub(crate) generator_cpu_seconds: f64,
}

/// Resources that one server used during the measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) name: String,
    pub(crate) cpu_seconds: f64,
    /// The part of `cpu_seconds` in the kernel.
    pub(crate) kernel_seconds: f64,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Load {
    /// Responses per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Microseconds of CPU per response, of all servers together.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.servers.iter().map(|server| self.cpu_us_of(server)).sum()
    }

    /// Microseconds of CPU per response, of one server.
    pub(crate) fn cpu_us_of(&self, server: &Cost) -> f64 {
        server.cpu_seconds * 1e6 / self.answered as f64
    }

    /// The share of one server's CPU that was kernel time.
    pub(crate) fn kernel_percent_of(server: &Cost) -> f64 {
        100.0 * server.kernel_seconds / server.cpu_seconds
    }
}

/// The time from the start of a process to its first correct response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) subject: Subject,
    /// The route of the requests.
    pub(crate) route: String,
    /// One for each start.
    pub(crate) milliseconds: Vec<f64>,
}

/// The library that trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trainer {
    #[serde(rename = "Canopy")]
    Canopy,
    #[serde(rename = "scikit-learn")]
    ScikitLearn,
}

impl Trainer {
    /// Its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Canopy => "Canopy",
            Self::ScikitLearn => "scikit-learn",
        }
    }
}

/// Training of a forest of 100 trees and inference with it, with a number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Training {
    pub(crate) trainer: Trainer,
    pub(crate) data: String,
    pub(crate) rows: usize,
    pub(crate) features: usize,
    pub(crate) threads: usize,
    /// One for each seed.
    pub(crate) fit_seconds: Vec<f64>,
    /// Accuracy on the hold-out rows; one for each seed.
    pub(crate) accuracy: Vec<f64>,
    /// Microseconds per row in calls with one row, the median of many.
    pub(crate) single_us: f64,
    /// Microseconds per row in calls with all hold-out rows, the median of some.
    pub(crate) batch_us: f64,
}

/// The size of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) program: String,
    pub(crate) bytes: u64,
}
