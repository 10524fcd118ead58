//! The figures of one run, as they are kept.
//!
//! Comes in and goes out: JSON. Never: a figure that was worked out from others and could disagree with them.

use serde::{Deserialize, Serialize};

use crate::latency::Percentiles;

/// Everything that one run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) load: Vec<Load>,
    pub(crate) start: Vec<Start>,
    pub(crate) training: Vec<Training>,
    pub(crate) size: Vec<Size>,
}

/// What it was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    pub(crate) system: String,
    pub(crate) kernel: String,
    /// How many processes wanted a CPU, on the average of the minute before the run.
    pub(crate) load_before: f64,
    pub(crate) versions: Vec<Version>,
}

/// The version of something that was measured or measured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A server, or a line of servers, that answers predictions.
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
    /// What people call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Baseline => "bare axum server, no model",
            Self::Nginx => "nginx in front of the bare axum server",
            Self::Predictor => "Canopy's predictor",
            Self::Gateway => "Canopy's gateway in front of the predictor",
            Self::FastApi => "FastAPI + scikit-learn",
        }
    }
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// Each connection sends the next request when it has the answer to the last.
    Closed { connections: usize },
    /// Requests are due at a fixed rate, whatever becomes of those before.
    Open { per_second: u32, connections: usize },
}

/// One subject under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) subject: Subject,
    pub(crate) shape: Shape,
    /// How long was measured.
    pub(crate) seconds: f64,
    /// Right answers within that time.
    pub(crate) answered: u64,
    /// Wrong answers and lost connections, the time to warm up included.
    pub(crate) failed: u64,
    /// What the first of these was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_failure: Option<String>,
    /// Requests that were due but had no answer when the measurement ended.
    pub(crate) unanswered: u64,
    /// In an open loop from when the request was due; without an answer, until the measurement ended.
    pub(crate) latency_us: Percentiles,
    pub(crate) servers: Vec<Cost>,
    /// What the generator itself used, in seconds of CPU.
    pub(crate) generator_cpu_seconds: f64,
}

/// What one server used while it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) name: String,
    pub(crate) cpu_seconds: f64,
    /// The part of it in the kernel.
    pub(crate) kernel_seconds: f64,
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Load {
    /// Answers in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Microseconds of CPU for each answer, of all servers together.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.servers.iter().map(|server| self.cpu_us_of(server)).sum()
    }

    /// Microseconds of CPU for each answer, of one server.
    pub(crate) fn cpu_us_of(&self, server: &Cost) -> f64 {
        server.cpu_seconds * 1e6 / self.answered as f64
    }

    /// Which part of one server's CPU was the kernel's.
    pub(crate) fn kernel_percent_of(server: &Cost) -> f64 {
        100.0 * server.kernel_seconds / server.cpu_seconds
    }
}

/// From the start of a process to its first right answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) subject: Subject,
    /// The route that was asked again and again.
    pub(crate) route: String,
    /// One for each start.
    pub(crate) milliseconds: Vec<f64>,
}

/// Who trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trainer {
    #[serde(rename = "Canopy")]
    Canopy,
    #[serde(rename = "scikit-learn")]
    ScikitLearn,
}

impl Trainer {
    /// What people call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Canopy => "Canopy",
            Self::ScikitLearn => "scikit-learn",
        }
    }
}

/// A forest of 100 trees, trained and asked with one number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Training {
    pub(crate) trainer: Trainer,
    pub(crate) data: String,
    pub(crate) rows: usize,
    pub(crate) features: usize,
    pub(crate) threads: usize,
    /// One for each seed.
    pub(crate) fit_seconds: Vec<f64>,
    /// The share of the rows held out whose class was predicted; one for each seed.
    pub(crate) accuracy: Vec<f64>,
    /// Microseconds for a row that is asked about alone, the median of many.
    pub(crate) single_us: f64,
    /// Microseconds for each row of all rows held out, asked about together, the median of some.
    pub(crate) batch_us: f64,
}

/// The size of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) program: String,
    pub(crate) bytes: u64,
}
