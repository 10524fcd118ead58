//! The closed list of what a model owns, as it should be.
//!
//! Comes in: a plan, what is there, and the decision which revision serves. Goes out: children in the order in
//! which they may be written. Never: a failure; what cannot be made any more is left as it is.

pub mod meta;
pub mod snapshot;
pub mod config;
pub mod deployment;
pub mod service;
pub mod policy;
pub mod network;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::revision::snapshot::{DataFile, Frozen};
use crate::rollout::revisions::Rollout;
use crate::settings::callers::Callers;
use crate::spec::Plan;
use crate::state::Observed;
use meta::Family;

/// What a model owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    /// Who may call its pods; none where that is not limited.
    pub network: Option<NetworkPolicy>,
    /// Of each revision that stays.
    pub revisions: Vec<RevisionChildren>,
    /// The Services; none where no revision could be made yet.
    pub services: Option<Services>,
    /// The budget of voluntary disruptions, from two replicas.
    pub budget: Option<PodDisruptionBudget>,
    /// The revisions of which nothing is to be left.
    pub goes: Vec<String>,
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
    pub snapshot: ControllerRevision,
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
pub fn desired(plan: &Plan, observed: &Observed, rollout: &Rollout, callers: Option<&Callers>) -> Children {
    let Rollout { serving, stays, retired, goes } = rollout;
    let family = Family { name: &plan.name, uid: &plan.uid, owner: &plan.owner };
    let revisions = stays.iter().filter_map(|(revision, replicas)| {
        let frozen = frozen(plan, observed, revision)?;
        Some(RevisionChildren {
            serves: serving.as_ref() == Some(revision),
            is_new: !observed.revisions.contains_key(revision),
            ..revision_children(family, plan, revision, (frozen, *replicas))
        })
    });
    Children {
        network: callers.map(|callers| network::policy(family, callers)),
        revisions: revisions.collect(),
        services: serving.as_ref().map(|serving| Services {
            endpoints: service::endpoints(family, serving, retired),
            stable: service::stable(family, serving),
        }),
        budget: serving.as_ref().filter(|_| plan.replicas > 1).map(|serving| policy::budget(family, serving)),
        goes: goes.iter().cloned().collect(),
    }
}

/// What the pods of a revision are made from: as it was frozen, or, for one that is new, as it is planned.
fn frozen<'a>(plan: &'a Plan, observed: &'a Observed, revision: &str) -> Option<&'a Frozen> {
    let kept = observed.revisions.get(revision).and_then(|seen| seen.frozen.as_ref());
    let planned = || plan.target.as_ref().ok().filter(|target| target.revision == revision);
    kept.or_else(|| planned().map(|target| &target.frozen))
}

fn revision_children(
    family: Family<'_>,
    plan: &Plan,
    revision: &str,
    (frozen, replicas): (&Frozen, i32),
) -> RevisionChildren {
    let labels = family.labels_of_revision(&frozen.version, revision);
    let target = plan.target.as_ref().ok().filter(|target| target.revision == revision);
    let text = |file: &DataFile| {
        let data = target.and_then(|target| target.data.as_ref()).filter(|data| data.file == *file)?;
        Some(config::data(family, revision, labels.clone(), (&file.file, data.text.as_ref()?)))
    };
    let data = frozen.data.as_ref().map(|file| DataCopy {
        name: family.name.data_object(revision),
        file: file.clone(),
        config_map: text(file),
    });
    let meaning = frozen.meaning.as_ref().or_else(|| target.map(|target| &target.meaning));
    RevisionChildren {
        revision: revision.to_owned(),
        serves: false,
        is_new: false,
        snapshot: snapshot::snapshot(family, revision, labels.clone(), (frozen, meaning)),
        data,
        config: config::serving(family, revision, labels.clone(), frozen),
        deployment: deployment::deployment(family, revision, labels, (frozen, replicas)),
    }
}
