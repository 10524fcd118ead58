//! The closed list of what a model owns, as it should be.
//!
//! Comes in: a plan, what is there, and the decision which revision serves. Goes out: children in the order in
//! which they may be written. Never: a failure; what cannot be made any more is left as it is.

pub mod meta;
pub mod config;
pub mod deployment;
pub mod service;
pub mod policy;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::frozen::Frozen;
use crate::observed::Observed;
use crate::plan::Plan;
use crate::rollout::Rollout;
use meta::Family;

/// What a model owns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
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
    /// Whether it is the one that the Services select.
    pub serves: bool,
    /// Whether nothing of it is there yet.
    pub is_new: bool,
    /// The copy of its data. Whoever only repairs has no text, and keeps what is there.
    pub data: Option<ConfigMap>,
    /// What it is made from.
    pub config: ConfigMap,
    /// Its pods.
    pub deployment: Deployment,
}

/// What selects the revision that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Services {
    /// What the gateway asks for endpoints.
    pub endpoints: Service,
    /// A stable address for clients inside the cluster.
    pub stable: Service,
}

/// The children of a model.
pub fn desired(plan: &Plan, observed: &Observed, rollout: &Rollout) -> Children {
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
    let data = target.and_then(|target| target.data.as_ref());
    RevisionChildren {
        serves: false,
        is_new: false,
        data: data.map(|(file, text)| config::data(family, revision, labels.clone(), (file, text))),
        config: config::frozen(family, revision, labels.clone(), frozen),
        deployment: deployment::deployment(family, revision, labels, (frozen, replicas)),
    }
}
