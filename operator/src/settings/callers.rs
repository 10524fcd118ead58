//! Clients that may connect to predictors: lists of `NetworkPolicy` peers by port, read from JSON.
//!
//! Unknown keys and peers without a selector are errors. The API server would drop an unknown key, which could widen
//! the peer.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::Deserialize;

/// Clients that may connect to the pods of models.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Callers {
    /// Peers for the prediction port.
    pub predict: Vec<NetworkPolicyPeer>,
    /// Peers for the metrics port.
    pub metrics: Vec<NetworkPolicyPeer>,
}

/// An invalid value of `--predictor-callers`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallersError {
    /// It is not JSON of the expected form.
    #[error(
        "must be JSON with lists of peers of a NetworkPolicy, as in \
         {{\"predict\": [{{\"podSelector\": {{\"matchLabels\": {{\"app\": \"x\"}}}}}}], \"metrics\": []}}: {0}"
    )]
    Shape(String),
    /// A peer has no selector, or both a selector and an IP block.
    #[error(
        "peer {position} of {list} must have namespaceSelector, podSelector or both, or else ipBlock alone"
    )]
    Peer {
        /// `predict` or `metrics`.
        list: &'static str,
        /// Index of the peer in the list, from 0.
        position: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    #[serde(default)]
    predict: Vec<Peer>,
    #[serde(default)]
    metrics: Vec<Peer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Peer {
    namespace_selector: Option<Selector>,
    pod_selector: Option<Selector>,
    ip_block: Option<Block>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    cidr: String,
    #[serde(default)]
    except: Vec<String>,
}

impl FromStr for Callers {
    type Err = CallersError;

    fn from_str(text: &str) -> Result<Self, CallersError> {
        let Lists { predict, metrics } =
            serde_json::from_str(text).map_err(|error| CallersError::Shape(error.to_string()))?;
        Ok(Self { predict: peers("predict", predict)?, metrics: peers("metrics", metrics)? })
    }
}

fn peers(list: &'static str, given: Vec<Peer>) -> Result<Vec<NetworkPolicyPeer>, CallersError> {
    let peer = |(position, peer): (usize, Peer)| {
        let Peer { namespace_selector, pod_selector, ip_block } = peer;
        let selects = namespace_selector.is_some() || pod_selector.is_some();
        if selects == ip_block.is_some() {
            return Err(CallersError::Peer { list, position });
        }
        Ok(NetworkPolicyPeer {
            namespace_selector: namespace_selector.map(selector),
            pod_selector: pod_selector.map(selector),
            ip_block: ip_block.map(|Block { cidr, except }| IPBlock {
                cidr,
                except: (!except.is_empty()).then_some(except),
            }),
        })
    };
    given.into_iter().enumerate().map(peer).collect()
}

/// The selector in the form in which the API server stores it, without empty lists. Otherwise every comparison would
/// find a difference.
fn selector(given: Selector) -> LabelSelector {
    let Selector { match_labels, match_expressions } = given;
    let requirement = |Requirement { key, operator, values }| LabelSelectorRequirement {
        key,
        operator,
        values: (!values.is_empty()).then_some(values),
    };
    let requirements: Vec<_> = match_expressions.into_iter().map(requirement).collect();
    LabelSelector {
        match_labels: (!match_labels.is_empty()).then_some(match_labels),
        match_expressions: (!requirements.is_empty()).then_some(requirements),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn peers_are_normalised_like_in_the_api_server() {
        let text = json!({
            "predict": [
                {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {}, "matchExpressions": []}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": []}},
            ],
            "metrics": [
                {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}},
                {"namespaceSelector": null, "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
            ],
        });
        let Callers { predict, metrics } = text.to_string().parse().unwrap();
        let predict_expected = json!([
            {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}},
            {"ipBlock": {"cidr": "10.0.0.0/8"}},
        ]);
        assert_eq!(to_value(predict).unwrap(), predict_expected);
        let metrics_expected = json!([
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
        ]);
        assert_eq!(to_value(metrics).unwrap(), metrics_expected);
        assert_eq!("{}".parse(), Ok(Callers::default()));
    }

    #[test]
    fn a_peer_without_a_selector_or_with_unknown_keys_is_refused() {
        let why = |text: &str| text.parse::<Callers>().unwrap_err().to_string();
        for text in
            ["{}", r#"{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}"#, r#"{"podSelector": null}"#]
        {
            let expected =
                "peer 1 of metrics must have namespaceSelector, podSelector or both, or else ipBlock alone";
            assert_eq!(why(&format!(r#"{{"metrics": [{{"podSelector": {{}}}}, {text}]}}"#)), expected);
        }
        for (text, expected) in [
            (r#"{"predict": [{"podSelector": {"matchLables": {"a": "b"}}}]}"#, "unknown field `matchLables`"),
            (r#"{"predict": [{"podselector": {}}]}"#, "unknown field `podselector`"),
            (r#"{"predicts": []}"#, "unknown field `predicts`"),
            (r#"{"predict": [{"podSelector": {"matchLabels": {"a": 1}}}]}"#, "invalid type: integer"),
            ("", "EOF"),
        ] {
            let why = why(text);
            assert!(why.starts_with("must be JSON with lists of peers") && why.contains(expected), "{why}");
        }
    }
}
