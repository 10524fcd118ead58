//! How many pods of a model may be taken away at once by those who drain nodes.
//!
//! Comes in: the revision that serves. Goes out: a budget. Never: one that keeps a pod that does not serve anyway.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::children::meta::OwnerInfo;

/// One pod at a time.
pub fn build(owner: OwnerInfo<'_>, revision: &str) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owner.child(owner.name.to_string(), owner.labels(), BTreeMap::new()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(owner.pods_of(revision)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
