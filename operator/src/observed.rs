//! What there is of a model now, read from its objects as the watches last saw them.
//!
//! Comes in: the objects that carry the model's uid, and the status that was written last. Goes out: facts, by
//! revision. Never: a judgement, a call, a clock; an object that cannot be read counts as not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use canopy_contract::names::ModelName;
use canopy_contract::report::Report;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::ResourceExt as _;

use crate::frozen::Frozen;
use crate::labels::{Labels, RETIRED, REVISION};
use crate::reason::Trouble;
use crate::retired::{self, Retired};
use crate::trouble;

/// The objects that carry one model's uid.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// One per revision.
    pub deployments: Vec<Arc<Deployment>>,
    /// Two per revision: how it serves, and its data.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// The two that select the revision that serves.
    pub services: Vec<Arc<Service>>,
    /// Of all revisions.
    pub pods: Vec<Arc<Pod>>,
}

/// What was written down of a model in its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The revision that served.
    pub revision: Option<String>,
    /// Whether that revision was prepared.
    pub prepared: bool,
    /// The revision that was refused.
    pub refused: Option<String>,
}

/// What there is of a model.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every revision of which anything is left.
    pub revisions: BTreeMap<String, RevisionSeen>,
    /// The revision that the gateway's Service selects, or else the stable one.
    pub selected: Option<String>,
    /// What each Service selects, by the Service's name.
    pub selectors: BTreeMap<String, Labels>,
    /// The revisions that served before.
    pub retired: Retired,
    /// What the status says.
    pub remembered: Remembered,
}

/// What there is of a revision.
#[derive(Clone, Debug, Default)]
pub struct RevisionSeen {
    /// What its pods are made from.
    pub frozen: Option<Frozen>,
    /// Its Deployment.
    pub deployment: Option<DeploymentSeen>,
    /// Its pods, but those that are going.
    pub pods: Vec<PodSeen>,
}

impl RevisionSeen {
    /// Whether its pods are there, or can be made again.
    pub fn can_be_restored(&self) -> bool {
        self.deployment.is_some() || self.frozen.is_some()
    }
}

/// A Deployment, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentSeen {
    /// How many pods there should be.
    pub wanted: i32,
    /// How many there are.
    pub pods: i32,
    /// How many of them are ready.
    pub ready: i32,
    /// Whether these numbers are of its present spec.
    pub is_current: bool,
    /// Why Kubernetes makes no pods.
    pub refusal: Option<String>,
}

/// A pod, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How its preparation ended.
    pub report: Option<Report>,
    /// Since when `prepare` runs.
    pub preparing_since: Option<Timestamp>,
    /// What keeps it from becoming ready.
    pub trouble: Option<Trouble>,
}

impl Observed {
    /// Reads the objects of the model `name`.
    pub fn read(name: &ModelName, objects: &Objects, remembered: Remembered) -> Self {
        let Objects { deployments, config_maps, services, pods } = objects;
        let mut revisions = BTreeMap::<String, RevisionSeen>::new();
        for deployment in deployments {
            if let Some(revision) = deployment.labels().get(REVISION) {
                revisions.entry(revision.clone()).or_default().deployment = Some(read_deployment(deployment));
            }
        }
        for config_map in config_maps {
            if let Some(revision) = config_map.labels().get(REVISION) {
                let seen = revisions.entry(revision.clone()).or_default();
                seen.frozen = seen.frozen.take().or_else(|| Frozen::read(config_map));
            }
        }
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            if let Some(seen) = pod.labels().get(REVISION).and_then(|revision| revisions.get_mut(revision)) {
                seen.pods.push(read_pod(pod));
            }
        }
        for seen in revisions.values_mut() {
            seen.pods.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let endpoints = named(&name.endpoints_service(), services);
        let stable = named(&name.stable_service(), services);
        let stamp = endpoints.and_then(|service| service.annotations().get(RETIRED));
        Self {
            revisions,
            selected: endpoints.and_then(selected_by).or_else(|| stable.and_then(selected_by)),
            selectors: services.iter().map(|service| (service.name_any(), selector(service))).collect(),
            retired: stamp.map(|stamp| retired::read(stamp)).unwrap_or_default(),
            remembered,
        }
    }
}

fn named<'a>(name: &str, services: &'a [Arc<Service>]) -> Option<&'a Service> {
    services.iter().find(|service| service.name_any() == name).map(|service| &**service)
}

fn selector(service: &Service) -> Labels {
    service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default()
}

fn selected_by(service: &Service) -> Option<String> {
    service.spec.as_ref()?.selector.as_ref()?.get(REVISION).cloned()
}

fn read_deployment(deployment: &Deployment) -> DeploymentSeen {
    let status = deployment.status.clone().unwrap_or_default();
    DeploymentSeen {
        wanted: deployment.spec.replicas.unwrap_or(1),
        pods: status.replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        is_current: status.observed_generation >= deployment.metadata.generation,
        refusal: trouble::of_deployment(&status),
    }
}

fn read_pod(pod: &Pod) -> PodSeen {
    PodSeen {
        name: pod.name_any(),
        ready: trouble::is_ready(pod),
        report: trouble::report(pod),
        preparing_since: trouble::preparing_since(pod),
        trouble: trouble::of_pod(pod),
    }
}
