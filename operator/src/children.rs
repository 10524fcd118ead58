//! The children of a model: the closed list of its objects, in the order in which they are written.
//!
//! Building them cannot fail. A revision without a snapshot is left as it is.

pub mod meta;
pub mod controller_revision;
pub mod config;
pub mod deployment;
pub mod service;
pub mod disruption_budget;
pub mod network_policy;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::revision::snapshot::{DataFile, Snapshot};
use crate::rollout::revisions::Rollout;
use crate::settings::callers::Callers;
use crate::spec::{DesiredState, SourceFile};
use crate::state::ObservedState;
use meta::OwnerInfo;

/// The children of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    /// `NetworkPolicy` of its pods, if clients are restricted.
    pub network_policy: Option<NetworkPolicy>,
    /// Children of each kept revision.
    pub revisions: Vec<RevisionChildren>,
    /// Services; `None` if no revision could be created yet.
    pub services: Option<Services>,
    /// `PodDisruptionBudget`, from two replicas.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// Revisions to delete.
    pub removed: Vec<String>,
}

/// The children of a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionChildren {
    /// Name of the revision.
    pub revision: String,
    /// Whether the Services select it.
    pub serves: bool,
    /// Whether none of its objects exist yet.
    pub is_new: bool,
    /// `ControllerRevision` with its snapshot.
    pub controller_revision: ControllerRevision,
    /// `ConfigMap` with copies of its files.
    pub data: Option<DataCopy>,
    /// `ConfigMap` with its serving config.
    pub config: ConfigMap,
    /// Deployment of its pods.
    pub deployment: Deployment,
}

/// The `ConfigMap` with copies of the files of a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct DataCopy {
    /// Name of the `ConfigMap`.
    pub name: String,
    /// The files it must contain.
    pub files: Vec<DataFile>,
    /// The `ConfigMap`, if the contents are at hand. They are only read when the `ConfigMap` must be created.
    pub config_map: Option<ConfigMap>,
}

/// The Services of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Services {
    /// Headless Service through which gateways discover pods.
    pub endpoints: Service,
    /// Service for clients inside the cluster.
    pub stable: Service,
}

/// Builds the children of a model. `callers` restricts the clients of its pods.
pub fn build(
    desired: &DesiredState,
    observed: &ObservedState,
    rollout: &Rollout,
    callers: Option<&Callers>,
) -> Children {
    let Rollout { serving, retained, retired, removed } = rollout;
    let owner = OwnerInfo { name: &desired.name, uid: &desired.uid, reference: &desired.owner };
    let revisions = retained.iter().filter_map(|(revision, replicas)| {
        let snapshot = snapshot(desired, observed, revision)?;
        Some(RevisionChildren {
            serves: serving.as_ref() == Some(revision),
            is_new: !observed.revisions.contains_key(revision),
            ..revision_children(owner, desired, revision, snapshot, *replicas)
        })
    });
    Children {
        network_policy: callers.map(|callers| network_policy::build(owner, callers)),
        revisions: revisions.collect(),
        services: serving.as_ref().map(|serving| Services {
            endpoints: service::endpoints(owner, serving, retired),
            stable: service::stable(owner, serving),
        }),
        disruption_budget: serving
            .as_ref()
            .filter(|_| desired.replicas > 1)
            .map(|serving| disruption_budget::build(owner, serving)),
        removed: removed.iter().cloned().collect(),
    }
}

/// The snapshot of a revision: the stored one, or that of the target if the revision is new.
fn snapshot<'a>(
    desired: &'a DesiredState,
    observed: &'a ObservedState,
    revision: &str,
) -> Option<&'a Snapshot> {
    let kept = observed.revisions.get(revision).and_then(|seen| seen.snapshot.as_ref());
    let planned = || desired.target.as_ref().ok().filter(|target| target.revision == revision);
    kept.or_else(|| planned().map(|target| &target.snapshot))
}

/// The contents of the files of a snapshot by name, if all are at hand.
fn contents<'a>(snapshot: &'a Snapshot, data: &'a [SourceFile]) -> Option<Vec<(&'a str, &'a [u8])>> {
    let content = |file: &'a DataFile| {
        let data = data.iter().find(|data| data.file == *file)?;
        Some((file.file.as_str(), data.content.as_deref()?))
    };
    snapshot.data.iter().map(content).collect()
}

fn revision_children(
    owner: OwnerInfo<'_>,
    desired: &DesiredState,
    revision: &str,
    snapshot: &Snapshot,
    replicas: i32,
) -> RevisionChildren {
    let labels = owner.labels_of_revision(&snapshot.version, revision);
    let target = desired.target.as_ref().ok().filter(|target| target.revision == revision);
    let contents = target.and_then(|target| contents(snapshot, &target.data));
    let data = (!snapshot.data.is_empty()).then(|| DataCopy {
        name: owner.name.data_object(revision),
        files: snapshot.data.clone(),
        config_map: contents.map(|contents| config::data(owner, revision, labels.clone(), &contents)),
    });
    let spec_digest = snapshot.spec_digest.as_ref().or_else(|| target.map(|target| &target.spec_digest));
    RevisionChildren {
        revision: revision.to_owned(),
        serves: false,
        is_new: false,
        controller_revision: controller_revision::build(
            owner,
            revision,
            labels.clone(),
            snapshot,
            spec_digest,
        ),
        data,
        config: config::serving(owner, revision, labels.clone(), snapshot),
        deployment: deployment::build(owner, revision, labels, snapshot, replicas),
    }
}
