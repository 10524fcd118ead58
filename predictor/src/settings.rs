//! Flags and environment variables of the predictor, with their defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use canopy_contract::body::FORWARDED_MAX_BYTES;
use canopy_contract::duration;
use canopy_contract::names::{
    PREDICTOR_ADMIN_PORT, PREDICTOR_PORT, SOURCE_ALLOWED_NETWORKS, SOURCE_DENIED_NETWORKS,
};
use canopy_contract::serving::ServingConfig;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::artifact;
use crate::engine::training::Trainer;
use crate::files::{self, FileError};
use crate::serving::app::Limits;
use crate::sources::networks::{Networks, Sources};
use crate::training::prepare::DATA_MAX_BYTES;

/// Prepares a model and serves it.
#[derive(Debug, Parser)]
#[command(
    name = "canopy-predictor",
    version,
    after_help = "Example:
  canopy-predictor prepare --config demo.json --dir /tmp/demo
  canopy-predictor serve --config demo.json --dir /tmp/demo
  curl -d '{\"features\":[1,2,-0.5,0.3]}' localhost:8001/predict"
)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of a predictor.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train or import a model, evaluate it, check its quality gate, and write it to the folder
    #[command(after_help = "Example:
  canopy-predictor prepare --config demo.json --dir /tmp/demo

If the model is refused (invalid data, missed gate), the reason is written to the folder and the exit code is 0,
because another attempt would not help. After a failure that may be temporary, the exit code is not 0.")]
    Prepare(PrepareArguments),
    /// Serve a prepared model, after it has reproduced its recorded prediction
    #[command(after_help = "Example:
  canopy-predictor serve --config demo.json --dir /tmp/demo --listen 127.0.0.1:8001

OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, RUST_LOG and CANOPY_LOG_FORMAT are also read.
With --log-control: curl -X PUT localhost:9001/log -d warn,canopy_predictor=debug changes the log filter.")]
    Serve(ServeArguments),
}

/// The model and its folder.
#[derive(Clone, Debug, Args)]
pub struct ModelArguments {
    /// Serving config: the model and its training or file, as JSON
    #[arg(long, env = "CANOPY_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Expected SHA-256 of the serving config, in hexadecimal; a file with another one is refused
    #[arg(long, env = "CANOPY_CONFIG_SHA256", value_name = "DIGEST")]
    config_sha256: Option<String>,
    /// Folder that prepare writes and serve reads
    #[arg(long, env = "CANOPY_MODEL_DIR", value_name = "FOLDER")]
    pub dir: PathBuf,
    /// Version to report instead of the one in the config
    #[arg(long, env = "CANOPY_MODEL_VERSION", value_name = "VERSION")]
    model_version: Option<String>,
}

/// Options of `prepare`.
#[derive(Clone, Debug, Args)]
pub struct PrepareArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArguments,
    /// Library that trains
    #[arg(long, env = "CANOPY_TRAINER", value_enum, default_value_t)]
    pub trainer: Trainer,
    /// Expected SHA-256 of each local file in the config, in hexadecimal, separated by commas: of the training data, or
    /// of the model file and the evaluation data; a file with another one is refused
    #[arg(long, env = "CANOPY_DATA_SHA256", value_name = "DIGESTS", value_delimiter = ',')]
    data_sha256: Option<Vec<String>>,
    /// Additional file for the report; at most 4 KiB of JSON
    #[arg(long, env = "CANOPY_TERMINATION_LOG", value_name = "FILE")]
    pub termination_log: Option<PathBuf>,
    /// The only networks from which data may be downloaded, as in 10.8.0.0/16,192.0.2.7/32 [default: all but this
    /// host, link-local addresses, metadata services and the API server]
    #[arg(long, env = SOURCE_ALLOWED_NETWORKS, value_name = "NETWORKS", value_delimiter = ',')]
    source_allowed_networks: Vec<IpNet>,
    /// Networks from which data must not be downloaded
    #[arg(long, env = SOURCE_DENIED_NETWORKS, value_name = "NETWORKS", value_delimiter = ',')]
    source_denied_networks: Vec<IpNet>,
    /// Address of the API server, which Kubernetes sets in every container
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true)]
    api_server: Option<String>,
}

/// Options of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArguments {
    /// The model.
    #[command(flatten)]
    pub model: ModelArguments,
    /// Address for predictions
    #[arg(long, env = "CANOPY_LISTEN", value_name = "ADDRESS", default_value_t = everywhere(PREDICTOR_PORT))]
    pub listen: SocketAddr,
    /// Address for /live, /ready and /metrics
    #[arg(long, env = "CANOPY_ADMIN", value_name = "ADDRESS", default_value_t = everywhere(PREDICTOR_ADMIN_PORT))]
    pub admin: SocketAddr,
    /// Number of worker threads [default: one per CPU, at most 4]
    #[arg(long, env = "CANOPY_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
    /// How long the port stays open after SIGTERM, so that clients can switch to other pods
    #[arg(long, env = "CANOPY_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = u64::from(duration::PREDICTOR_DRAIN_SECONDS))]
    drain_seconds: u64,
    /// Maximum size of a request body; four times that of the gateway, which writes numbers with all digits
    #[arg(long, env = "CANOPY_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = FORWARDED_MAX_BYTES)]
    max_body_bytes: usize,
    /// Time limit for a body to arrive, as in 500ms or 10s
    #[arg(long, env = "CANOPY_BODY_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    body_timeout: Duration,
    /// Memory for the bodies of all requests; beyond it requests get 503
    /// [default: a sixteenth of the container's memory, at most 67108864]
    #[arg(long, env = "CANOPY_BODY_MEMORY_BYTES", value_name = "BYTES")]
    body_memory_bytes: Option<usize>,
    /// Maximum number of connections; one address may have three quarters of them
    /// [default: half of the file descriptors, at most 8192]
    #[arg(long, env = "CANOPY_MAX_CONNECTIONS", value_name = "NUMBER")]
    max_connections: Option<usize>,
    /// Allows callers on the same machine or in the same pod to change the log filter at the admin port. Do not set
    /// it if a proxy forwards requests to that port, because all of its callers are then local
    #[arg(long, env = "CANOPY_LOG_CONTROL")]
    pub log_control: bool,
    /// How long the port responds with the reason why an artifact is refused, before the process ends
    #[arg(long, env = "CANOPY_REFUSAL_SECONDS", value_name = "SECONDS", default_value_t = 15)]
    refusal_seconds: u64,
    /// File for the reason why the model is not served, written before the process ends
    #[arg(long, env = "CANOPY_TERMINATION_LOG", value_name = "FILE")]
    pub termination_log: Option<PathBuf>,
}

/// Why the serving config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a serving config.
    #[error("{} is not a serving config: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The number of digests is not that of the local files.
    #[error(
        "CANOPY_DATA_SHA256 must have one SHA-256 for each of the {expected} local files in the config, got {found}"
    )]
    Digests {
        /// The number of local files.
        expected: usize,
        /// The number of digests.
        found: usize,
    },
    /// The file does not have the expected digest.
    #[error(
        "{} has changed since this pod was created: its SHA-256 must be {expected}, got {found}; if its ConfigMap was \
         replaced, delete this pod after the operator has restored the ConfigMap", path.display()
    )]
    Exchanged {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The expected digest.
        expected: String,
    },
}

impl ModelArguments {
    /// Reads the serving config.
    pub fn config(&self) -> Result<ServingConfig, ConfigError> {
        let mut config = read_config(&self.config, self.config_sha256.as_deref())?;
        if let Some(version) = &self.model_version {
            config.version.clone_from(version);
        }
        Ok(config)
    }
}

impl PrepareArguments {
    /// The networks from which data may be downloaded. They are always limited, because the author of the spec may have no
    /// access to this machine's networks.
    pub fn sources(&self) -> Sources {
        Sources::Within(Networks {
            allowed: self.source_allowed_networks.clone(),
            denied: self.source_denied_networks.clone(),
            // Kubernetes sets an address. If it is a name, it is ignored here and checked after its lookup.
            api_server: self.api_server.as_deref().and_then(|address| address.parse().ok()),
        })
    }

    /// Checks that the local files of the config are the expected ones.
    pub fn check_data(&self, config: &ServingConfig) -> Result<(), ConfigError> {
        let Some(expected) = &self.data_sha256 else { return Ok(()) };
        let paths: Vec<_> = config.local_files().collect();
        if paths.len() != expected.len() {
            return Err(ConfigError::Digests { expected: paths.len(), found: expected.len() });
        }
        paths.into_iter().zip(expected).try_for_each(|(path, expected)| {
            check_digest(path, &files::read(path, DATA_MAX_BYTES)?, Some(expected))
        })
    }
}

impl ServeArguments {
    /// How long the port stays open after SIGTERM.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// How long the port responds with the reason why an artifact is refused.
    pub fn refusal(&self) -> Duration {
        Duration::from_secs(self.refusal_seconds)
    }

    /// Limits of requests and connections.
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.max_body_bytes,
            body_timeout: self.body_timeout,
            body_memory: self.body_memory_bytes,
            connections: self.max_connections,
        }
    }
}

fn read_config(path: &Path, sha256: Option<&str>) -> Result<ServingConfig, ConfigError> {
    const CONFIG_MAX_BYTES: u64 = 1 << 20;
    let bytes = files::read(path, CONFIG_MAX_BYTES)?;
    check_digest(path, &bytes, sha256)?;
    serde_json::from_slice(&bytes).map_err(|source| ConfigError::Content { path: path.to_owned(), source })
}

fn check_digest(path: &Path, bytes: &[u8], expected: Option<&str>) -> Result<(), ConfigError> {
    let found = artifact::digest(bytes);
    match expected {
        Some(expected) if expected != found => {
            Err(ConfigError::Exchanged { path: path.to_owned(), found, expected: expected.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_units_of_the_gateway() {
        let limits = |time: &str| {
            let line = ["canopy-predictor", "serve", "--config", "c", "--dir", "d", "--body-timeout", time];
            match Arguments::try_parse_from(line).map(|arguments| arguments.command) {
                Ok(Command::Serve(serve)) => Some(serve.limits().body_timeout),
                Ok(Command::Prepare(_)) | Err(_) => None,
            }
        };
        assert_eq!(limits("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(limits("2m"), Some(Duration::from_mins(2)));
        assert_eq!(limits("2d"), None);
    }
}
