//! What there is of a model now, read from its objects as the watches last saw them.
//!
//! Comes in: the objects that carry the model's uid, and the status that was written last. Goes out: facts, by
//! revision. Never: a judgement, a call, a clock; an object that cannot be read counts as not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::ModelName;
use canopy_contract::report::Report;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;

use crate::labels::{Labels, RETIRED, REVISION, SERVICE_NAME};
use crate::pod::diagnosis::{self, Stuck};
use crate::reason::Diagnosis;
use crate::revision::retirement::{self, Retired};
use crate::revision::snapshot::Snapshot;

/// The objects of one model: they carry its uid, are in its namespace, and belong to no other.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// One per revision.
    pub deployments: Vec<Arc<Deployment>>,
    /// One per revision: what it is made from.
    pub controller_revisions: Vec<Arc<ControllerRevision>>,
    /// Two per revision: how it serves, and its data. Their content decides nothing, so only metadata is known.
    pub config_maps: Vec<Arc<PartialObjectMeta<ConfigMap>>>,
    /// The two that select the revision that serves.
    pub services: Vec<Arc<Service>>,
    /// What Kubernetes made of the Services: the pods that clients of each find.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Of all revisions.
    pub pods: Vec<Arc<Pod>>,
}

/// What was written down of a model in its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviousStatus {
    /// The revision that served.
    pub revision: Option<String>,
    /// Whether that revision was prepared.
    pub prepared: bool,
    /// The revision that was refused, until it is tried again.
    pub refused: Option<String>,
    /// When it is tried again by itself.
    pub retry_after: Option<Timestamp>,
    /// Since when the model has not been ready.
    pub unready_since: Option<Timestamp>,
}

/// What there is of a model.
#[derive(Clone, Debug, Default)]
pub struct ObservedState {
    /// Every revision of which anything is left.
    pub revisions: BTreeMap<String, ObservedRevision>,
    /// The revision that the gateway's Service selects, or else the stable one.
    pub selected: Option<String>,
    /// What each Service selects, by the Service's name.
    pub selectors: BTreeMap<String, Labels>,
    /// The names of the pods that gateways find: the ready endpoints of their Service.
    pub endpoints: BTreeSet<String>,
    /// Whether gateways find a pod of the revision that their Service selects.
    pub reach: Reach,
    /// The revisions that served before.
    pub retired: Retired,
    /// What the status says.
    pub previous_status: PreviousStatus,
    /// The revisions whose copy of the data is gone and cannot be made again.
    pub lost: BTreeSet<String>,
}

/// Whether gateways find a pod of the revision that their Service selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// They find one, or no pod is ready.
    #[default]
    Reached,
    /// Pods are ready and none is an endpoint yet; Kubernetes has this much time left to change that.
    Awaited(Duration),
    /// Pods have been ready for longer than that, and none is an endpoint.
    Lost,
}

/// What there is of a revision.
#[derive(Clone, Debug, Default)]
pub struct ObservedRevision {
    /// What its pods are made from.
    pub snapshot: Option<Snapshot>,
    /// Its Deployment.
    pub deployment: Option<ObservedDeployment>,
    /// Its pods, but those that are going.
    pub pods: Vec<ObservedPod>,
}

impl ObservedRevision {
    /// Whether its pods are there, or can be made again.
    pub fn can_be_restored(&self) -> bool {
        self.deployment.is_some() || self.snapshot.is_some()
    }
}

/// A Deployment, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedDeployment {
    /// How many pods there should be.
    pub desired_replicas: i32,
    /// How many there are.
    pub pods: i32,
    /// How many of them are ready.
    pub ready: i32,
    /// Whether these numbers are of its present spec.
    pub is_current: bool,
    /// Why Kubernetes makes no pods.
    pub refusal: Option<String>,
    /// Why Kubernetes no longer waits for its pods.
    pub stalled: Option<String>,
}

/// A pod, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedPod {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How its preparation ended.
    pub report: Option<Report>,
    /// Since when `prepare` runs.
    pub preparing_since: Option<Timestamp>,
    /// When it last took a step towards being ready.
    pub last_progress: Option<Timestamp>,
    /// A refusal that it does not get over.
    pub stuck: Option<Stuck>,
    /// What keeps it from becoming ready.
    pub diagnosis: Option<Diagnosis>,
}

impl ObservedState {
    /// Reads the objects of the model `name`, whose revisions are made from `snapshot`.
    pub fn read(
        name: &ModelName,
        objects: &Objects,
        snapshots: BTreeMap<String, Snapshot>,
        previous_status: PreviousStatus,
    ) -> Self {
        let Objects { deployments, controller_revisions, config_maps, services, slices, pods } = objects;
        let mut revisions = BTreeMap::<String, ObservedRevision>::new();
        for deployment in deployments {
            if let Some(revision) = deployment.labels().get(REVISION) {
                let seen = revisions.entry(revision.clone()).or_default();
                seen.deployment = Some(read_deployment(deployment));
                let own = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
                let own = own.filter(|pod| diagnosis::is_created_by(pod, deployment));
                seen.pods = own.map(|pod| read_pod(pod)).collect();
                seen.pods.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        // What is left of a revision goes with it.
        let remaining = controller_revisions.iter().map(|controller_revision| controller_revision.labels());
        for labels in remaining.chain(config_maps.iter().map(|config_map| config_map.labels())) {
            if let Some(revision) = labels.get(REVISION) {
                revisions.entry(revision.clone()).or_default();
            }
        }
        for (revision, snapshot) in snapshots {
            revisions.entry(revision).or_default().snapshot = Some(snapshot);
        }
        let endpoints = named(&name.endpoints_service(), services);
        let stable = named(&name.stable_service(), services);
        let stamp = endpoints.and_then(|service| service.annotations().get(RETIRED));
        Self {
            revisions,
            selected: endpoints.and_then(selected_by).or_else(|| stable.and_then(selected_by)),
            selectors: services.iter().map(|service| (service.name_any(), selector(service))).collect(),
            endpoints: ready_endpoints(&name.endpoints_service(), slices),
            reach: Reach::default(),
            retired: stamp.map(|stamp| retirement::read(stamp)).unwrap_or_default(),
            previous_status,
            lost: BTreeSet::new(),
        }
    }
}

fn named<'a>(name: &str, services: &'a [Arc<Service>]) -> Option<&'a Service> {
    services.iter().find(|service| service.name_any() == name).map(|service| &**service)
}

fn selector(service: &Service) -> Labels {
    service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default()
}

fn ready_endpoints(service: &str, slices: &[Arc<EndpointSlice>]) -> BTreeSet<String> {
    let own =
        slices.iter().filter(|slice| slice.labels().get(SERVICE_NAME).is_some_and(|name| name == service));
    let endpoints =
        own.flat_map(|slice| slice.endpoints.iter().flatten()).filter(|endpoint| is_ready(endpoint));
    endpoints.filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect()
}

/// Whether clients of the Service find this endpoint. An absent condition means ready.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
}

fn selected_by(service: &Service) -> Option<String> {
    service.spec.as_ref()?.selector.as_ref()?.get(REVISION).cloned()
}

fn read_deployment(deployment: &Deployment) -> ObservedDeployment {
    let status = deployment.status.clone().unwrap_or_default();
    ObservedDeployment {
        desired_replicas: deployment.spec.replicas.unwrap_or(1),
        pods: status.replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        is_current: status.observed_generation >= deployment.metadata.generation,
        refusal: diagnosis::replica_failure(&status),
        stalled: diagnosis::stalled(&status),
    }
}

fn read_pod(pod: &Pod) -> ObservedPod {
    ObservedPod {
        name: pod.name_any(),
        ready: diagnosis::is_ready(pod),
        report: diagnosis::report(pod),
        preparing_since: diagnosis::preparing_since(pod),
        last_progress: diagnosis::last_progress(pod),
        stuck: diagnosis::stuck(pod),
        diagnosis: diagnosis::of_pod(pod),
    }
}
