//! The operator's settings: each is a command-line flag and an environment variable.

pub mod callers;
pub mod default_resources;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use canopy_contract::names::{SOURCE_ALLOWED_NETWORKS, SOURCE_DENIED_NETWORKS, is_dns_1123_label};
use clap::Parser;
use ipnet::IpNet;

use crate::settings::callers::Callers;
use crate::settings::default_resources::DefaultResources;

/// Canopy operator: runs predictors for each `PredictorModel`
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Example: canopy-operator --predictor-image registry.example/canopy-predictor:0.1.0"
)]
pub struct Settings {
    /// Image of the predictor. New revisions use it; existing revisions keep the image they were created with
    #[arg(long, env = "CANOPY_PREDICTOR_IMAGE")]
    pub predictor_image: String,
    /// Clients that may connect to predictors, as JSON lists of `NetworkPolicy` peers: "predict" for port 8001 and
    /// "metrics" for port 9001. If set, each model gets a `NetworkPolicy`; without it no `NetworkPolicy` is created
    #[arg(long, env = "CANOPY_PREDICTOR_CALLERS", value_name = "JSON")]
    pub predictor_callers: Option<Callers>,
    /// Default resources of predictor containers, in JSON: "prepare" is the init container that trains, "serve" the
    /// container that serves. They apply if a model sets none. Without this flag both containers request 10m CPU and
    /// 32Mi memory, and training is limited to 2Gi memory
    #[arg(long, env = "CANOPY_PREDICTOR_RESOURCES", value_name = "JSON")]
    pub predictor_resources: Option<DefaultResources>,
    /// Image pull secrets of predictors, separated by commas. Each must exist in the namespace of the model
    #[arg(long, env = "CANOPY_PREDICTOR_PULL_SECRETS", value_name = "NAMES", value_delimiter = ',')]
    pub predictor_pull_secrets: Vec<String>,
    /// Address of the admin server: /live, /ready, /metrics and /log
    #[arg(long, env = "CANOPY_ADMIN", default_value = "0.0.0.0:9002")]
    pub admin: SocketAddr,
    /// Namespace of the Lease for leader election. All installations in a cluster must use the same one
    #[arg(long, env = "CANOPY_LEASE_NAMESPACE", default_value = "kube-system")]
    pub lease_namespace: String,
    /// Namespaces whose models are served, such as shop,fraud. Other namespaces are neither read nor written [default:
    /// all namespaces]
    #[arg(long, env = "CANOPY_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace)]
    pub namespaces: Vec<String>,
    /// Name of this installation, as namespace/release; the holder of the Lease records it
    #[arg(long, env = "CANOPY_INSTALLATION", default_value = "canopy")]
    pub installation: String,
    /// Identity of this process in the leader election: the name of its pod
    #[arg(long, env = "CANOPY_IDENTITY")]
    pub identity: String,
    /// Allow changes of the log filter through the admin server from the same pod. Do not set this behind a proxy
    /// that makes remote callers look local
    #[arg(long, env = "CANOPY_LOG_CONTROL")]
    pub log_control: bool,
    /// Networks from which predictors of new revisions may download training data, such as 10.8.0.0/16,192.0.2.7/32.
    /// If set, all others are refused. An entry inside a network that is refused by default allows it
    #[arg(long, env = SOURCE_ALLOWED_NETWORKS, value_name = "NETWORKS", value_delimiter = ',')]
    pub source_allowed_networks: Vec<IpNet>,
    /// Networks from which predictors must not download training data, in addition to the defaults: loopback and
    /// link-local addresses, metadata services and the API server
    #[arg(long, env = SOURCE_DENIED_NETWORKS, value_name = "NETWORKS", value_delimiter = ',')]
    pub source_denied_networks: Vec<IpNet>,
    /// Number of worker threads [default: one per CPU, at most 4]
    #[arg(long, env = "CANOPY_WORKERS")]
    pub workers: Option<usize>,
}

impl Settings {
    /// The namespaces to watch, each once; `None` stands for all.
    pub fn watched_namespaces(&self) -> BTreeSet<Option<String>> {
        if self.namespaces.is_empty() {
            return BTreeSet::from([None]);
        }
        self.namespaces.iter().cloned().map(Some).collect()
    }

    /// Environment variables that pass the allowed and denied networks to the `prepare` container.
    pub fn source_network_variables(&self) -> Vec<(&'static str, String)> {
        let join = |networks: &[IpNet]| networks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
        let variables = [
            (SOURCE_ALLOWED_NETWORKS, join(&self.source_allowed_networks)),
            (SOURCE_DENIED_NETWORKS, join(&self.source_denied_networks)),
        ];
        variables.into_iter().filter(|(_, networks)| !networks.is_empty()).collect()
    }
}

/// The name of a namespace. Any other text would end up in the paths of requests.
fn namespace(text: &str) -> Result<String, &'static str> {
    if is_dns_1123_label(text) {
        Ok(text.to_owned())
    } else {
        Err(
            "a namespace is at most 63 lower-case letters, digits and '-', and begins and ends with a letter or digit",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Settings, clap::Error> {
        let line = ["canopy-operator", "--predictor-image", "predictor:1", "--identity", "one"];
        Settings::try_parse_from(line.iter().chain(more))
    }

    #[test]
    fn all_namespaces_are_watched_unless_some_are_named() {
        let watched = |more: &[&str]| parse(more).unwrap().watched_namespaces();
        assert_eq!(watched(&[]), BTreeSet::from([None]));
        let named = ["fraud", "shop"].map(|name| Some(name.to_owned()));
        assert_eq!(watched(&["--namespaces", "shop,fraud,shop"]), BTreeSet::from(named));
        for wrong in ["", "*", "Shop", "shop,", "a/../b"] {
            let error = parse(&["--namespaces", wrong]).unwrap_err().to_string();
            assert!(error.contains("--namespaces") && error.contains("a namespace is at most 63"), "{error}");
        }
    }

    #[test]
    fn source_networks_are_passed_to_prepare() {
        assert!(parse(&[]).unwrap().source_network_variables().is_empty());
        let networks =
            ["--source-allowed-networks", "10.8.0.0/16,fd00::/8", "--source-denied-networks", "10.8.1.0/24"];
        assert_eq!(
            parse(&networks).unwrap().source_network_variables(),
            [
                ("CANOPY_SOURCE_ALLOWED_NETWORKS", "10.8.0.0/16,fd00::/8".to_owned()),
                ("CANOPY_SOURCE_DENIED_NETWORKS", "10.8.1.0/24".to_owned()),
            ]
        );
    }

    #[test]
    fn an_invalid_source_network_is_an_error() {
        let error = parse(&["--source-allowed-networks", "10.8.0.0/16,shop"]).unwrap_err().to_string();
        assert!(error.contains("'shop'") && error.contains("--source-allowed-networks"), "{error}");
    }
}
