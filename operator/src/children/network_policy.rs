//! The `NetworkPolicy` of a model.
//!
//! A rule never has an empty list of peers, because Kubernetes would allow all sources.

use std::collections::BTreeMap;

use canopy_contract::names::{PREDICTOR_ADMIN_PORT, PREDICTOR_PORT};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::children::meta::OwnerInfo;
use crate::settings::callers::Callers;

/// Allows ingress to the pods of all revisions from `callers` only, by port. Egress is not restricted.
pub fn build(owner: OwnerInfo<'_>, callers: &Callers) -> NetworkPolicy {
    let Callers { predict, metrics } = callers;
    let rules: Vec<_> =
        [(PREDICTOR_PORT, predict), (PREDICTOR_ADMIN_PORT, metrics)].into_iter().filter_map(rule).collect();
    NetworkPolicy {
        metadata: owner.child(owner.name.network_policy(), owner.labels(), BTreeMap::new()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(owner.pods()),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            // Set even if empty: otherwise a rule added by someone else would remain.
            ingress: Some(rules),
            egress: None,
        }),
    }
}

fn rule((port, peers): (u16, &Vec<NetworkPolicyPeer>)) -> Option<NetworkPolicyIngressRule> {
    (!peers.is_empty()).then(|| NetworkPolicyIngressRule {
        from: Some(peers.clone()),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    })
}
