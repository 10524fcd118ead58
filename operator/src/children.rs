//! The closed list of what a model owns, as it should be.
//!
//! Comes in: a plan, what is there, and the decision which revision serves. Goes out: children in the order in
//! which they may be written. Never: a failure; what cannot be made any more is left as it is.

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
use crate::spec::DesiredState;
use crate::state::ObservedState;
use meta::OwnerInfo;

/// What a model owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    /// Who may call its pods; none where that is not limited.
    pub network_policy: Option<NetworkPolicy>,
    /// Of each revision that stays.
    pub revisions: Vec<RevisionChildren>,
    /// The Services; none where no revision could be made yet.
    pub services: Option<Services>,
    /// The budget of voluntary disruptions, from two replicas.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// The revisions of which nothing is to be left.
    pub removed: Vec<String>,
}

/// What a revision owns.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionChildren {
    /// Its name.
    pub revision: String,
    /// Whether it is the one that the Services select.
    pub serves: bool,
    /// Whether nothing of it is there yet.
    pub is_new: bool,
    /// What it is made from.
    pub controller_revision: ControllerRevision,
    /// The copy of its data.
    pub data: Option<DataCopy>,
    /// How it serves.
    pub config: ConfigMap,
    /// Its pods.
    pub deployment: Deployment,
}

/// The copy of the data of a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct DataCopy {
    /// Its name.
    pub name: String,
    /// What must be in it.
    pub file: DataFile,
    /// The whole, where the data are at hand: the text is only read where the copy is to be made.
    pub config_map: Option<ConfigMap>,
}

/// What selects the revision that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Services {
    /// What the gateway asks for endpoints.
    pub endpoints: Service,
    /// A stable address for clients inside the cluster.
    pub stable: Service,
}

/// The children of a model, which only `callers` may call, where there are any.
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
            ..revision_children(owner, desired, revision, (snapshot, *replicas))
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

/// What the pods of a revision are made from: as it was frozen, or, for one that is new, as it is planned.
fn snapshot<'a>(
    desired: &'a DesiredState,
    observed: &'a ObservedState,
    revision: &str,
) -> Option<&'a Snapshot> {
    let kept = observed.revisions.get(revision).and_then(|seen| seen.snapshot.as_ref());
    let planned = || desired.target.as_ref().ok().filter(|target| target.revision == revision);
    kept.or_else(|| planned().map(|target| &target.snapshot))
}

fn revision_children(
    owner: OwnerInfo<'_>,
    desired: &DesiredState,
    revision: &str,
    (snapshot, replicas): (&Snapshot, i32),
) -> RevisionChildren {
    let labels = owner.labels_of_revision(&snapshot.version, revision);
    let target = desired.target.as_ref().ok().filter(|target| target.revision == revision);
    let text = |file: &DataFile| {
        let data = target.and_then(|target| target.data.as_ref()).filter(|data| data.file == *file)?;
        Some(config::data(owner, revision, labels.clone(), (&file.file, data.text.as_ref()?)))
    };
    let data = snapshot.data.as_ref().map(|file| DataCopy {
        name: owner.name.data_object(revision),
        file: file.clone(),
        config_map: text(file),
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
            (snapshot, spec_digest),
        ),
        data,
        config: config::serving(owner, revision, labels.clone(), snapshot),
        deployment: deployment::build(owner, revision, labels, (snapshot, replicas)),
    }
}
