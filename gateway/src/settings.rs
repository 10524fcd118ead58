//! The settings of a gateway: command-line flags, each also an environment variable. Values are parsed, but not checked against
//! the outside: a file or host may not exist.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use canopy_contract::body::BODY_MAX_BYTES;
use canopy_contract::duration;
use canopy_contract::names::{DEFAULT_NAMESPACE, PREDICTOR_PORT};
use canopy_runtime::server::host_check::AllowedHosts;
use canopy_runtime::server::{body_memory, connections};
use http::Uri;

/// The settings of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// Namespace of models that are named without one
    #[arg(long, env = "CANOPY_NAMESPACE", value_name = "NAME", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// Namespaces whose models are served, separated by commas; '*' for every namespace
    /// [default: the gateway's own and the default model's]
    #[arg(long, env = "CANOPY_NAMESPACES", value_name = "NAMES")]
    pub namespaces: Option<String>,

    /// Model of /api/predict: MODEL or MODEL.NAMESPACE
    #[arg(long, env = "CANOPY_DEFAULT_MODEL", value_name = "MODEL", default_value = "demo")]
    pub default_model: String,

    /// DNS domain of the cluster, such as cluster.local. Models are then discovered by DNS; without it DNS is not used
    #[arg(long, env = "CANOPY_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,

    /// DNS server [default: the servers of /etc/resolv.conf]
    #[arg(long, env = "CANOPY_DNS_SERVER", value_name = "ADDR")]
    pub dns_server: Option<SocketAddr>,

    /// Predictors that are not discovered by DNS: MODEL=http://HOST:PORT, separated by commas
    #[arg(long, env = "CANOPY_PREDICTORS", value_name = "LIST", default_value = "")]
    pub predictors: Predictors,

    /// Time limit for a predictor's response, over all attempts, in seconds or with a unit, such as 500ms or 30s
    #[arg(long, env = "CANOPY_UPSTREAM_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub upstream_timeout: Duration,

    /// Retries and outlier ejection.
    #[command(flatten)]
    pub resilience: Resilience,

    /// Time limit for receiving the body of a request, such as 500ms or 10s
    #[arg(long, env = "CANOPY_BODY_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub body_timeout: Duration,

    /// Maximum size of a request body
    #[arg(long, env = "CANOPY_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = BODY_MAX_BYTES)]
    pub max_body_bytes: usize,

    /// Maximum memory for the bodies of all requests; requests beyond it get 503
    /// [default: a sixteenth of the container's memory, at most 67108864]
    #[arg(long, env = "CANOPY_BODY_MEMORY_BYTES", value_name = "BYTES")]
    pub body_memory_bytes: Option<usize>,

    /// Maximum number of open connections; one address may have three quarters of them
    /// [default: half of the file descriptors, at most 8192]
    #[arg(long, env = "CANOPY_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<usize>,

    /// Database for predictions and users: `sqlite://PATH` for one gateway (the file is created if missing);
    /// `mysql://USER:PASSWORD@HOST/NAME` or `postgres://USER:PASSWORD@HOST/NAME` for several. Without it predictions are not
    /// recorded, and /api/users returns a fixed list
    #[arg(long, env = "CANOPY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Which predictions are recorded.
    #[command(flatten)]
    pub recording: Recording,

    /// Shows recorded predictions and the users of the database to every client that can reach the gateway; without it those
    /// routes return 403
    #[arg(long, env = "CANOPY_LIST_PREDICTIONS")]
    pub list_predictions: bool,

    /// How long to accept connections after SIGTERM, in seconds
    #[arg(long, env = "CANOPY_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 10)]
    pub drain_seconds: u64,

    /// The hosts that requests may name.
    #[arg(skip)]
    pub hosts: AllowedHosts,

    /// Values that have no flag.
    #[arg(skip)]
    pub tuning: Tuning,
}

/// Retries and outlier ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Resilience {
    /// Retries and hedges as a percentage of the requests of the last ten seconds; ten per second are always allowed.
    /// 0 disables retries
    #[arg(long, env = "CANOPY_RETRY_PERCENT", value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub retry_percent: u8,

    /// How long an endpoint that failed or did not respond gets no requests while another one is available, such as 500ms or 1s.
    /// Doubles with each consecutive failure; 0s disables ejection
    #[arg(long, env = "CANOPY_EJECT_TIME", value_name = "TIME", default_value = "1s", value_parser = duration::parse_from_zero)]
    pub eject_time: Duration,
}

/// Which predictions are recorded in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Recording {
    /// Share of predictions that are recorded, from 0 to 1; selected by their ids
    #[arg(long = "record-ratio", env = "CANOPY_RECORD_RATIO", value_name = "SHARE", default_value = "1")]
    pub ratio: Ratio,

    /// How long a recorded prediction is kept, in seconds; 0 keeps it forever
    #[arg(long = "record-retention-seconds", env = "CANOPY_RECORD_RETENTION_SECONDS", value_name = "SECONDS", default_value_t = 30 * 24 * 60 * 60)]
    pub retention_seconds: u64,

    /// Records the feature values, too
    #[arg(long = "record-features", env = "CANOPY_RECORD_FEATURES")]
    pub features: bool,

    /// Values that have no flag.
    #[arg(skip)]
    pub tuning: RecordingTuning,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            ratio: Ratio::ALL,
            retention_seconds: 30 * 24 * 60 * 60,
            features: false,
            tuning: RecordingTuning::default(),
        }
    }
}

/// Parameters of recording that have no flag; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingTuning {
    /// Capacity of the queue of predictions to be written.
    pub queue_capacity: usize,
    /// Predictions written in one statement.
    pub batch_size: usize,
    /// How long the writer waits for more predictions before it writes a batch.
    pub batch_delay: Duration,
    /// Time limit of the queries that a request waits for.
    pub query_timeout: Duration,
    /// How often expired predictions are deleted.
    pub expiry_interval: Duration,
}

impl Default for RecordingTuning {
    fn default() -> Self {
        Self {
            queue_capacity: 32_768,
            batch_size: 1000,
            batch_delay: Duration::from_millis(100),
            query_timeout: Duration::from_secs(2),
            expiry_interval: Duration::from_mins(1),
        }
    }
}

/// A share of all ids, with a resolution of 2^-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// The share times 2^32.
    threshold: u64,
}

impl Ratio {
    /// All ids.
    pub const ALL: Self = Self { threshold: 1 << 32 };

    /// Whether the share includes an id whose last four bytes, which are random, are `random`.
    pub fn includes(self, random: u32) -> bool {
        u64::from(random) < self.threshold
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share: Option<f64> = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or_else(|| format!("{text:?} must be a number from 0 to 1, as in 0.1"))?;
        #[expect(clippy::cast_sign_loss, reason = "it was looked at above")]
        let threshold = (share * Self::ALL.threshold as f64).round() as u64;
        Ok(Self { threshold })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.threshold as f64 / Self::ALL.threshold as f64)
    }
}

impl Default for Resilience {
    fn default() -> Self {
        Self { retry_percent: 10, eject_time: Duration::from_secs(1) }
    }
}

/// Parameters that have no flag; tests shorten them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The port of predictors that are discovered by DNS.
    pub predictor_port: u16,
    /// The longest time between two look-ups of a model in use.
    pub resolve_interval: Duration,
    /// How long a negative or failed look-up is cached.
    pub negative_ttl: Duration,
    /// How long endpoints stay in use after DNS returns none.
    pub vanished_grace: Duration,
    /// How long a model without requests is kept.
    pub idle_ttl: Duration,
    /// How long the list of models is cached.
    pub listing_ttl: Duration,
    /// How often models that have series are looked up.
    pub series_check_interval: Duration,
    /// How long the series of a model are kept after DNS reports the model as unknown.
    pub series_retention: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            predictor_port: PREDICTOR_PORT,
            resolve_interval: Duration::from_secs(5),
            negative_ttl: Duration::from_secs(1),
            vanished_grace: Duration::from_secs(15),
            idle_ttl: Duration::from_mins(5),
            listing_ttl: Duration::from_secs(3),
            series_check_interval: Duration::from_mins(10),
            series_retention: Duration::from_hours(1),
        }
    }
}

impl Settings {
    /// Maximum memory for request bodies, in bytes.
    pub(crate) fn body_memory(&self) -> usize {
        self.body_memory_bytes.unwrap_or_else(|| body_memory::default_max(self.max_body_bytes))
    }

    /// Maximum number of open connections.
    pub(crate) fn connections(&self) -> usize {
        self.max_connections.unwrap_or_else(connections::default_max)
    }
}

impl Default for Settings {
    /// The defaults of the flags, regardless of the environment.
    fn default() -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            namespaces: None,
            default_model: "demo".to_owned(),
            cluster_domain: None,
            dns_server: None,
            predictors: Predictors::default(),
            upstream_timeout: Duration::from_secs(30),
            resilience: Resilience::default(),
            body_timeout: Duration::from_secs(10),
            max_body_bytes: BODY_MAX_BYTES,
            body_memory_bytes: None,
            max_connections: None,
            database_url: None,
            recording: Recording::default(),
            list_predictions: false,
            drain_seconds: 10,
            hosts: AllowedHosts::Any,
            tuning: Tuning::default(),
        }
    }
}

/// The predictors of static models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictors(pub Vec<Predictor>);

/// The predictor of a static model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictor {
    /// The model: `iris` or `iris.shop`.
    pub model: String,
    /// The address of its predictor.
    pub address: Address,
}

/// The address of an HTTP server without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a list of predictors is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictorsError {
    /// An entry lacks `=` or the model.
    #[error("{0:?} must be MODEL=http://HOST:PORT, as in demo=http://127.0.0.1:8001")]
    Shape(String),
    /// An address is not http://HOST:PORT.
    #[error(
        "the address of model {model:?} must be http://HOST:PORT without a path, since predictors speak HTTP \
         without TLS, but is {address:?}"
    )]
    Address {
        /// The model.
        model: String,
        /// The invalid address.
        address: String,
    },
}

impl FromStr for Predictors {
    type Err = PredictorsError;

    fn from_str(text: &str) -> Result<Self, PredictorsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(str::trim).map(Predictor::from_str).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Predictor {
    type Err = PredictorsError;

    fn from_str(text: &str) -> Result<Self, PredictorsError> {
        let (model, address) = text
            .split_once('=')
            .filter(|(model, _)| !model.is_empty())
            .ok_or_else(|| PredictorsError::Shape(text.to_owned()))?;
        let found = Address::of_url(address)
            .ok_or_else(|| PredictorsError::Address { model: model.into(), address: address.into() })?;
        Ok(Self { model: model.to_owned(), address: found })
    }
}

impl Address {
    fn of_url(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        let plain =
            uri.scheme_str() == Some("http") && uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        if !plain || authority.as_str().contains('@') {
            return None;
        }
        // Uri accepts ports that are no numbers.
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => 80,
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    #[test]
    fn a_list_of_predictors_names_models_and_addresses() {
        let read = |text: &str| match text.parse::<Predictors>() {
            Ok(Predictors(all)) => {
                all.iter().map(|p| format!("{} {}", p.model, p.address)).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("", "");
        check("demo=http://127.0.0.1:8001", "demo 127.0.0.1:8001");
        check(" a=http://h:1/, b.shop=http://[::1]:2 ", "a h:1, b.shop [::1]:2");
        check("a=http://h", "a h:80");
        check("demo", r#""demo" must be MODEL=http://HOST:PORT, as in demo=http://127.0.0.1:8001"#);
        check("a=http://h:1,", r#""" must be MODEL=http://HOST:PORT, as in demo=http://127.0.0.1:8001"#);
        check(
            "=http://h:1",
            r#""=http://h:1" must be MODEL=http://HOST:PORT, as in demo=http://127.0.0.1:8001"#,
        );
        for bad in [
            "h:1",
            "https://h:1",
            "http://h:1/x",
            "http://h:1?q",
            "http://u@h:1",
            "http://h:x",
            "http://h:0",
            "",
        ] {
            let error = read(&format!("demo={bad}"));
            assert!(
                error.starts_with(r#"the address of model "demo" must be http://HOST:PORT"#),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn a_ratio_is_a_share_of_all_ids() {
        let ratio = |text: &str| text.parse::<Ratio>();
        assert_eq!(ratio("1").unwrap(), Ratio::ALL);
        assert!(Ratio::ALL.includes(u32::MAX) && !ratio("0").unwrap().includes(0));
        let quarter = ratio("0.25").unwrap();
        assert!(quarter.includes((1 << 30) - 1) && !quarter.includes(1 << 30), "{quarter}");
        assert_eq!(quarter.to_string(), "0.25");
        for bad in ["", "-0.1", "1.1", "NaN", "10%"] {
            let error = ratio(bad).unwrap_err();
            assert_eq!(error, format!("{bad:?} must be a number from 0 to 1, as in 0.1"));
        }
    }

    #[test]
    fn default_settings_are_the_defaults_of_the_flags() {
        let matches = Settings::augment_args(clap::Command::new("gateway")).get_matches_from(["gateway"]);
        assert_eq!(Settings::from_arg_matches(&matches).unwrap(), Settings::default());
    }
}
