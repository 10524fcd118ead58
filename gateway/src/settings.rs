//! What a gateway can be told: flags, each also an environment variable.
//!
//! Comes in: the command line and the environment, or a caller that fills the fields itself. Goes out: values
//! of the right shape. Never: a look at whether what they name exists.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use canopy_contract::body::BODY_MAX_BYTES;
use canopy_contract::duration;
use canopy_contract::names::{DEFAULT_NAMESPACE, PREDICTOR_PORT};
use canopy_runtime::server::{body_memory, connections};
use http::Uri;

/// What a gateway can be told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// The namespace of models that are named without one
    #[arg(long, env = "CANOPY_NAMESPACE", value_name = "NAME", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// NamespacePolicy whose models may be asked for, separated by commas; '*' is every namespace
    /// [default: the gateway's own and the default model's]
    #[arg(long, env = "CANOPY_NAMESPACES", value_name = "NAMES")]
    pub namespaces: Option<String>,

    /// The model that /api/predict asks: MODEL or MODEL.NAMESPACE
    #[arg(long, env = "CANOPY_DEFAULT_MODEL", value_name = "MODEL", default_value = "demo")]
    pub default_model: String,

    /// The cluster's DNS domain, as in cluster.local: models are then found by DNS; without it none is asked
    #[arg(long, env = "CANOPY_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,

    /// The DNS server to ask [default: those of /etc/resolv.conf]
    #[arg(long, env = "CANOPY_DNS_SERVER", value_name = "ADDR")]
    pub dns_server: Option<SocketAddr>,

    /// Where the predictors are: MODEL=http://HOST:PORT, separated by commas; DNS is not asked about these
    #[arg(long, env = "CANOPY_PREDICTORS", value_name = "LIST", default_value = "")]
    pub predictors: Predictors,

    /// How long a predictor may take to answer, over all attempts: seconds, or with a unit, as in 500ms or 30s
    #[arg(long, env = "CANOPY_UPSTREAM_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub upstream_timeout: Duration,

    /// How the gateway shields clients from pods that fail.
    #[command(flatten)]
    pub resilience: Resilience,

    /// How long a client may take to send the body of a request, as in 500ms or 10s
    #[arg(long, env = "CANOPY_BODY_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    pub body_timeout: Duration,

    /// How long the body of a request may be
    #[arg(long, env = "CANOPY_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = BODY_MAX_BYTES)]
    pub max_body_bytes: usize,

    /// How many bytes of bodies may be held at once, over all requests; beyond it requests get 503
    /// [default: a sixteenth of the container's memory, at most 67108864]
    #[arg(long, env = "CANOPY_BODY_MEMORY_BYTES", value_name = "BYTES")]
    pub body_memory_bytes: Option<usize>,

    /// How many connections may be open at once; of these one address may have three quarters
    /// [default: half of the file descriptors, at most 8192]
    #[arg(long, env = "CANOPY_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<usize>,

    /// The database: sqlite://, then the path of a file, which is made if it is not there, for one gateway; mysql:// or
    /// postgres://, then USER:PASSWORD@HOST/NAME, for several; without it answers are not recorded, and /api/users answers
    /// a fixed list
    #[arg(long, env = "CANOPY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// What of the answers is recorded.
    #[command(flatten)]
    pub recording: Recording,

    /// Shows recorded answers, and the users of the database, to every client that can reach the gateway; without it
    /// those routes answer 403
    #[arg(long, env = "CANOPY_LIST_PREDICTIONS")]
    pub list_predictions: bool,

    /// How long to go on accepting connections after SIGTERM, in seconds
    #[arg(long, env = "CANOPY_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 10)]
    pub drain_seconds: u64,

    /// What is the same in every cluster, and so is no flag.
    #[arg(skip)]
    pub tuning: Tuning,
}

/// How clients are shielded from pods that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Resilience {
    /// Of a hundred requests of the last ten seconds so many may be sent once more, to another pod, and ten a second
    /// in any case; 0 is none at all
    #[arg(long, env = "CANOPY_RETRY_PERCENT", value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub retry_percent: u8,

    /// How long a pod that failed or was silent gets no request where there is another one, twice as long with each
    /// failure in a row, as in 500ms or 1s; 0s is not at all
    #[arg(long, env = "CANOPY_EJECT_TIME", value_name = "TIME", default_value = "1s", value_parser = duration::parse_from_zero)]
    pub eject_time: Duration,
}

/// What of the answers is recorded, where there is a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Recording {
    /// The share of answers that are recorded, from 0 to 1; which ones follows from their ids
    #[arg(long = "record-ratio", env = "CANOPY_RECORD_RATIO", value_name = "SHARE", default_value = "1")]
    pub ratio: Ratio,

    /// For how many seconds a recorded answer is kept; 0 is for ever
    #[arg(long = "record-retention-seconds", env = "CANOPY_RECORD_RETENTION_SECONDS", value_name = "SECONDS", default_value_t = 30 * 24 * 60 * 60)]
    pub retention_seconds: u64,

    /// SqlStore the values of features, too
    #[arg(long = "record-features", env = "CANOPY_RECORD_FEATURES")]
    pub features: bool,

    /// What is the same everywhere, and so is no flag.
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

/// How answers come into the database; tests are in more of a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingTuning {
    /// How many answers may wait to be written.
    pub queue_capacity: usize,
    /// How many are written at once.
    pub batch_size: usize,
    /// How long an answer waits for others that are written with it.
    pub batch_delay: Duration,
    /// How long the database may take for what a request waits for.
    pub query_timeout: Duration,
    /// How often it is looked whether there are answers that are older than they are kept.
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

/// A share of all ids, to within one of four billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Of 2^32.
    threshold: u64,
}

impl Ratio {
    /// Every id.
    pub const ALL: Self = Self { threshold: 1 << 32 };

    /// Whether an id whose last bytes, which are random, are `random` is of the share.
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

/// What is the same in every cluster; tests are in more of a hurry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The port of every predictor that DNS knows.
    pub predictor_port: u16,
    /// How long an answer of DNS counts at most while its model is in use.
    pub resolve_interval: Duration,
    /// How long it counts that DNS knows nothing, or could not be asked.
    pub negative_ttl: Duration,
    /// How long the pods of a model stay in use after DNS names none any more.
    pub vanished_grace: Duration,
    /// How long a model that nobody asks for is remembered.
    pub idle_ttl: Duration,
    /// How long a list of models is shown before a new one is made.
    pub listing_ttl: Duration,
    /// How often DNS is asked whether models that have series still exist.
    pub series_check_interval: Duration,
    /// How long the series of a model stay after DNS reports it as unknown.
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
    /// How many bytes of bodies may be held at once.
    pub(crate) fn body_memory(&self) -> usize {
        self.body_memory_bytes.unwrap_or_else(|| body_memory::default_max(self.max_body_bytes))
    }

    /// How many connections may be open at once.
    pub(crate) fn connections(&self) -> usize {
        self.max_connections.unwrap_or_else(connections::default_max)
    }
}

impl Default for Settings {
    /// What the flags say where nothing is given; the environment is not looked at.
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
            tuning: Tuning::default(),
        }
    }
}

/// Where the predictors of some models are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictors(pub Vec<Predictor>);

/// Where the predictor of one model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictor {
    /// The model, as the flags name it: `iris` or `iris.shop`.
    pub model: String,
    /// Where it listens.
    pub address: Address,
}

/// A host and a port that speak HTTP without TLS.
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

/// A list of predictors that cannot be read: which entry, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictorsError {
    /// The entry is not two things with a `=` between them.
    #[error("{0:?} must be MODEL=http://HOST:PORT, as in demo=http://127.0.0.1:8001")]
    Shape(String),
    /// The address is not one that predictors can have.
    #[error(
        "the address of model {model:?} must be http://HOST:PORT without a path, since predictors speak HTTP \
         without TLS, but is {address:?}"
    )]
    Address {
        /// The model before the `=`.
        model: String,
        /// What stands after it.
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
        // A port that is no number is a port too many.
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
    fn a_gateway_that_is_told_nothing_has_the_defaults_of_its_flags() {
        let matches = Settings::augment_args(clap::Command::new("gateway")).get_matches_from(["gateway"]);
        assert_eq!(Settings::from_arg_matches(&matches).unwrap(), Settings::default());
    }
}
