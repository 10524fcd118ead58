//! The `PodDisruptionBudget` of the serving revision. Pods that are not ready can always be evicted.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::children::meta::OwnerInfo;

/// Allows one unavailable pod.
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
