//! Names, ports, headers and variables that more than one process uses, and the syntax of model names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the gateway listens for people and programs.
pub const GATEWAY_PORT: u16 = 8000;
/// Where a predictor listens for the gateway, and for clients inside the cluster.
pub const PREDICTOR_PORT: u16 = 8001;
/// Liveness, readiness and metrics of the gateway.
pub const GATEWAY_ADMIN_PORT: u16 = 9000;
/// Liveness, readiness and metrics of a predictor.
pub const PREDICTOR_ADMIN_PORT: u16 = 9001;

/// The response header with the revision of the model that predicted.
pub const REVISION_HEADER: &str = "canopy-revision";
/// The response header with the id under which an answer can be referred to later.
pub const PREDICTION_ID_HEADER: &str = "canopy-prediction-id";

/// The request header with the time in milliseconds in which the gateway needs the response of a predictor.
pub const TIMEOUT_HEADER: &str = "canopy-timeout-milliseconds";

/// The variable with the only networks that training data may be downloaded from: the operator passes it on to `prepare`.
pub const SOURCE_ALLOWED_NETWORKS: &str = "CANOPY_SOURCE_ALLOWED_NETWORKS";
/// The variable with networks that training data may not be downloaded from.
pub const SOURCE_DENIED_NETWORKS: &str = "CANOPY_SOURCE_DENIED_NETWORKS";

/// The namespace of a model that names none and of a process that was told none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The longest name of a model: what the names of its children add still fits into a DNS label.
pub const MODEL_NAME_MAX: usize = 45;
/// How many hexadecimal digits a revision has.
pub const REVISION_DIGITS: usize = 8;

/// The name of the one headless Service per namespace that lists all models.
pub const CATALOGUE_SERVICE: &str = "predictors";
/// The name of the port of every Service of a model: DNS answers for it by this name.
pub const PORT_NAME: &str = "http-canopy";
/// The domain of a cluster that was given no other.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The name of a model: a DNS-1035 label that cannot be mistaken for one of a model's own children.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ModelName {
    /// The Service with a stable address, for clients inside the cluster.
    pub fn stable_service(&self) -> String {
        self.0.clone()
    }

    /// The headless Service whose endpoints the gateway discovers.
    pub fn endpoints_service(&self) -> String {
        format!("{}-pods", self.0)
    }

    /// The `NetworkPolicy` of its pods. Not the bare name: people may have given that to a policy of their own.
    pub fn network_policy(&self) -> String {
        format!("{}-pods", self.0)
    }

    /// The Deployment, and the `ConfigMap` with the serving config, of one revision.
    pub fn revision_object(&self, revision: &str) -> String {
        format!("{}-{revision}", self.0)
    }

    /// The `ConfigMap` with the data of one revision.
    pub fn data_object(&self, revision: &str) -> String {
        format!("{}-{revision}-data", self.0)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ModelName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let fault = |why| Err(NameError { name: text.clone(), why });
        if !is_dns_1035_label(&text) {
            return fault(
                "must be lower-case letters, digits and '-', begin with a letter and not end with '-'",
            );
        }
        if text.len() > MODEL_NAME_MAX {
            return fault("must be at most 45 characters");
        }
        if text == CATALOGUE_SERVICE || text.ends_with("-pods") || ends_like_a_revision(&text) {
            return fault(
                "is reserved for objects that Canopy creates ('predictors', '…-pods', '…-<8 hexadecimal digits>')",
            );
        }
        Ok(Self(text))
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text.to_owned())
    }
}

/// A model in its namespace: what identifies it everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelRef {
    /// The model's own name.
    pub name: ModelName,
    /// The namespace it lives in.
    pub namespace: String,
}

impl ModelRef {
    /// Reads `iris` (in the namespace `own`) or `iris.shop`.
    pub fn parse(text: &str, own: &str) -> Result<Self, NameError> {
        let (name, namespace) = text.split_once('.').unwrap_or((text, own));
        if !is_dns_1123_label(namespace) {
            let why =
                "must be MODEL or MODEL.NAMESPACE, with a namespace of lower-case letters, digits and '-'";
            return Err(NameError { name: text.to_owned(), why });
        }
        Ok(Self { name: name.parse()?, namespace: namespace.to_owned() })
    }
}

impl ModelRef {
    /// Answers with the addresses of the pods that are ready.
    pub fn endpoints_query(&self, domain: &str) -> String {
        format!("{}.{}.svc.{domain}.", self.name.endpoints_service(), self.namespace)
    }

    /// An SRV query that is answered as long as the model exists, with or without pods.
    pub fn existence_query(&self, domain: &str) -> String {
        format!("_{PORT_NAME}._tcp.{}.{}.svc.{domain}.", self.name.stable_service(), self.namespace)
    }
}

/// An SRV query whose targets are `<model>.predictors.<namespace>.svc.<domain>.`: one per model with ready pods.
pub fn catalogue_query(namespace: &str, domain: &str) -> String {
    format!("_{PORT_NAME}._tcp.{CATALOGUE_SERVICE}.{namespace}.svc.{domain}.")
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// An invalid name: the name, and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    name: String,
    why: &'static str,
}

impl NameError {
    /// What the name must be.
    pub const fn why(&self) -> &'static str {
        self.why
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model name {:?} {}", self.name, self.why)
    }
}

impl std::error::Error for NameError {}

/// Whether Kubernetes takes `text` as the name of a namespace.
pub fn is_dns_1123_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&b| plain(b) || b == b'-')
        && plain(bytes[0])
        && plain(bytes[bytes.len() - 1])
}

fn is_dns_1035_label(text: &str) -> bool {
    is_dns_1123_label(text) && text.as_bytes()[0].is_ascii_lowercase()
}

fn ends_like_a_revision(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == REVISION_DIGITS && end.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_is_a_label_that_differs_from_the_names_of_owned_objects() {
        for good in ["demo", "a", "iris-2", "fraud-decade", &"x".repeat(45)] {
            assert_eq!(good.parse::<ModelName>().unwrap().as_str(), good);
        }
        for bad in
            ["", "Demo", "1st", "a_b", "a-", "predictors", "iris-pods", "iris-6f3a9c1e", &"x".repeat(46)]
        {
            let error = bad.parse::<ModelName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("model name {bad:?} ")), "{error}");
        }
    }

    #[test]
    fn queries_and_objects_are_named_after_the_model() {
        let iris = ModelRef::parse("iris.shop", "own").unwrap();
        assert_eq!(iris.endpoints_query(CLUSTER_DOMAIN), "iris-pods.shop.svc.cluster.local.");
        assert_eq!(iris.existence_query(CLUSTER_DOMAIN), "_http-canopy._tcp.iris.shop.svc.cluster.local.");
        assert_eq!(catalogue_query("shop", "x.y"), "_http-canopy._tcp.predictors.shop.svc.x.y.");
        assert_eq!(iris.name.data_object("6f3a9c1e"), "iris-6f3a9c1e-data");
    }

    #[test]
    fn a_reference_without_a_namespace_has_that_of_its_reader() {
        let parse = |text| ModelRef::parse(text, "own").map(|r| r.to_string());
        assert_eq!(parse("iris").unwrap(), "iris.own");
        assert_eq!(parse("iris.shop").unwrap(), "iris.shop");
        for bad in ["iris.", ".shop", "iris.shop.svc", "iris.Shop", "..", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
