//! The operator's flags, each of which is an environment variable too.
//!
//! Comes in: the command line and the environment. Goes out: values that are there. Never: a second place in
//! which a default stands.

pub mod callers;
pub mod default_resources;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use canopy_contract::names::{SOURCE_ALLOWED_NETWORKS, SOURCE_DENIED_NETWORKS, is_dns_1123_label};
use clap::Parser;
use ipnet::IpNet;

use crate::settings::callers::Callers;
use crate::settings::default_resources::DefaultResources;

/// Canopy's operator: a `PredictorModel` becomes pods that serve it.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Example: canopy-operator --predictor-image registry.example/canopy-predictor:0.1.0"
)]
pub struct Settings {
    /// The image of the predictor: revisions that are made from now on run it.
    #[arg(long, env = "CANOPY_PREDICTOR_IMAGE")]
    pub predictor_image: String,
    /// Who may open connections to predictors: lists of peers of a `NetworkPolicy` in JSON, "predict" for port 8001 and
    /// "metrics" for port 9001. Each model then has a `NetworkPolicy`; without this flag none has
    #[arg(long, env = "CANOPY_PREDICTOR_CALLERS", value_name = "JSON")]
    pub predictor_callers: Option<Callers>,
    /// What the containers of predictors get where a model does not say: "prepare" trains and "serve" serves, in JSON;
    /// requests of 10m CPU and 32Mi memory, and a limit of 2Gi memory for training, unless given
    #[arg(long, env = "CANOPY_PREDICTOR_RESOURCES", value_name = "JSON")]
    pub predictor_resources: Option<DefaultResources>,
    /// Secrets with which the predictor's image is pulled, separated by commas; each is in the namespace of the model
    #[arg(long, env = "CANOPY_PREDICTOR_PULL_SECRETS", value_name = "NAMES", value_delimiter = ',')]
    pub predictor_pull_secrets: Vec<String>,
    /// Where /live, /ready, /metrics and /log are.
    #[arg(long, env = "CANOPY_ADMIN", default_value = "0.0.0.0:9002")]
    pub admin: SocketAddr,
    /// The namespace of the Lease by which one of all operators of the cluster leads: the same for all installations.
    #[arg(long, env = "CANOPY_LEASE_NAMESPACE", default_value = "kube-system")]
    pub lease_namespace: String,
    /// The only namespaces whose models are served, such as shop,fraud; other namespaces are neither read nor written. All
    /// namespaces unless given.
    #[arg(long, env = "CANOPY_NAMESPACES", value_name = "NAMES", value_delimiter = ',', value_parser = namespace)]
    pub namespaces: Vec<String>,
    /// The installation that this process belongs to: its namespace and the name of its release.
    #[arg(long, env = "CANOPY_INSTALLATION", default_value = "canopy")]
    pub installation: String,
    /// The name under which this process holds the Lease: that of its pod.
    #[arg(long, env = "CANOPY_IDENTITY")]
    pub identity: String,
    /// Lets the levels of the log be changed at the admin port, from the same pod; not where a proxy in front of that
    /// port makes every caller local.
    #[arg(long, env = "CANOPY_LOG_CONTROL")]
    pub log_control: bool,
    /// The only networks that predictors of new revisions may download training data from, such as
    /// 10.8.0.0/16,192.0.2.7/32. One inside a network that is refused by default is allowed by it.
    #[arg(long, env = SOURCE_ALLOWED_NETWORKS, value_name = "NETWORKS", value_delimiter = ',')]
    pub source_allowed_networks: Vec<IpNet>,
    /// Networks that they may not download from, beside their own host, its links, metadata services and the API
    /// server.
    #[arg(long, env = SOURCE_DENIED_NETWORKS, value_name = "NETWORKS", value_delimiter = ',')]
    pub source_denied_networks: Vec<IpNet>,
    /// Threads; one per CPU and at most 4 unless given.
    #[arg(long, env = "CANOPY_WORKERS")]
    pub workers: Option<usize>,
}

impl Settings {
    /// The namespaces that are watched, each once; one `None` stands for all of them.
    pub fn watched_namespaces(&self) -> BTreeSet<Option<String>> {
        if self.namespaces.is_empty() {
            return BTreeSet::from([None]);
        }
        self.namespaces.iter().cloned().map(Some).collect()
    }

    /// The variables with which `prepare` learns the networks it may download from.
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
    fn networks_are_passed_on_to_prepare_where_there_are_any() {
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
    fn what_is_no_network_is_named_before_any_pod_is_made() {
        let error = parse(&["--source-allowed-networks", "10.8.0.0/16,shop"]).unwrap_err().to_string();
        assert!(error.contains("'shop'") && error.contains("--source-allowed-networks"), "{error}");
    }
}
