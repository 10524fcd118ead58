//! The observed state of a model, from its objects in the caches and its previous status.
//!
//! It contains facts only: no decision, no call and no clock. Objects that cannot be read count as missing.

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

/// The objects of one model: they are in its namespace, carry its uid, and are not controlled by another object.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Deployments, one per revision.
    pub deployments: Vec<Arc<Deployment>>,
    /// `ControllerRevision`s with the snapshots, one per revision.
    pub controller_revisions: Vec<Arc<ControllerRevision>>,
    /// `ConfigMap`s: serving config and data of each revision. Only their metadata is cached.
    pub config_maps: Vec<Arc<PartialObjectMeta<ConfigMap>>>,
    /// Services that select the serving revision.
    pub services: Vec<Arc<Service>>,
    /// `EndpointSlice`s of the Services.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Pods of all revisions.
    pub pods: Vec<Arc<Pod>>,
}

/// Facts from the status that the operator wrote last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviousStatus {
    /// The revision that served.
    pub revision: Option<String>,
    /// Whether that revision was prepared.
    pub prepared: bool,
    /// The refused revision, until it is retried.
    pub refused: Option<String>,
    /// When the refused revision is retried.
    pub retry_after: Option<Timestamp>,
    /// Since when the model is not ready.
    pub unready_since: Option<Timestamp>,
}

/// The observed state of a model.
#[derive(Clone, Debug, Default)]
pub struct ObservedState {
    /// All revisions with any object left.
    pub revisions: BTreeMap<String, ObservedRevision>,
    /// The revision selected by the Service for gateways, or else by the stable Service.
    pub selected: Option<String>,
    /// Selectors by name of the Service.
    pub selectors: BTreeMap<String, Labels>,
    /// Names of the pods behind the ready endpoints of the Service for gateways.
    pub endpoints: BTreeSet<String>,
    /// Whether that Service has an endpoint of the selected revision.
    pub reach: Reach,
    /// Revisions that served before.
    pub retired: Retired,
    /// Facts from the previous status.
    pub previous_status: PreviousStatus,
    /// Revisions whose data `ConfigMap` is lost and cannot be recreated.
    pub lost: BTreeSet<String>,
}

/// Whether the Service for gateways has an endpoint of the revision it selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It has one, or no pod is ready.
    #[default]
    Reached,
    /// Pods are ready but no endpoint exists yet. This is the rest of the grace period.
    Awaited(Duration),
    /// Pods have been ready beyond the grace period and no endpoint exists.
    Lost,
}

/// The observed state of a revision.
#[derive(Clone, Debug, Default)]
pub struct ObservedRevision {
    /// Its snapshot.
    pub snapshot: Option<Snapshot>,
    /// Its Deployment.
    pub deployment: Option<ObservedDeployment>,
    /// Its pods that are not being deleted.
    pub pods: Vec<ObservedPod>,
}

impl ObservedRevision {
    /// Whether its pods exist or can be created again.
    pub fn can_be_restored(&self) -> bool {
        self.deployment.is_some() || self.snapshot.is_some()
    }
}

/// The observed state of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedDeployment {
    /// Desired replicas.
    pub desired_replicas: i32,
    /// Existing pods.
    pub pods: i32,
    /// Ready pods.
    pub ready: i32,
    /// Whether the status belongs to the current generation.
    pub is_current: bool,
    /// Why no pods can be created.
    pub refusal: Option<String>,
    /// Message of an exceeded progress deadline.
    pub stalled: Option<String>,
}

/// The observed state of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedPod {
    /// Name of the pod.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Report of `prepare`.
    pub report: Option<Report>,
    /// Since when `prepare` is running.
    pub preparing_since: Option<Timestamp>,
    /// Time of its last step towards readiness.
    pub last_progress: Option<Timestamp>,
    /// A refusal from which it does not recover.
    pub stuck: Option<Stuck>,
    /// Why it is not ready.
    pub diagnosis: Option<Diagnosis>,
}

impl ObservedState {
    /// Reads the objects of the model `name` and its snapshots.
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
        // Remaining objects of a revision are removed with it.
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
