//! Writes the children of a model: first those of the revision that serves, then the others, each by itself.
//!
//! Invariant: what cannot be written of one revision stops nothing of another, and a revision is removed only after the
//! Services were written that no longer select it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::call::{ApplyError, CallError};
use crate::apply::cluster::{Cluster, Compared, Put};
use crate::apply::restore::Kept;
use crate::caches::stores::Child;
use crate::children::{Children, RevisionChildren, Services};
use crate::external_changes::Repair;
use crate::reason::Trouble;
use crate::spec::Plan;

/// What came of writing the children of a model.
#[derive(Debug, Default)]
pub struct Applied {
    /// Which children somebody else had changed.
    pub repairs: Vec<Repair>,
    /// The revisions whose copy of the data is gone and cannot be made again.
    pub lost: BTreeSet<String>,
    /// What must not be written, for people to look at: what concerns the revision that serves comes first.
    pub blocked: Vec<Trouble>,
    /// The first of the calls that failed and are tried again.
    pub failed: Option<CallError>,
    /// Whether the Services select what they should.
    pub is_switched: bool,
    /// After how long to write what is held back because somebody else changes it all the time.
    pub again: Option<Duration>,
}

impl Applied {
    /// What keeps children from being written, in one sentence for each.
    pub fn hindrance(&self) -> Option<Trouble> {
        let first = self.blocked.first()?;
        let messages: Vec<_> = self.blocked.iter().map(|trouble| trouble.message.as_str()).collect();
        Some(Trouble::new(first.reason, messages.join("; ")))
    }
}

/// Makes the children what they should be. Fails only where nothing more can be written.
pub async fn apply(cluster: &Cluster, plan: &Plan, children: Children) -> Result<Applied, ApplyError> {
    let Children { network, revisions, services, budget, goes } = children;
    let mut work = Work { cluster, plan, applied: Applied::default() };
    let (serving, mut others): (Vec<_>, Vec<_>) = revisions.into_iter().partition(|children| children.serves);
    // Those that are there already before those that are to come.
    others.sort_by_key(|children| children.is_new);

    // Nothing is made for a first revision whose names are taken.
    let mut is_free = true;
    for children in serving.iter().filter(|children| children.is_new) {
        is_free &= work.is_free(children, services.as_ref()).await?;
    }
    // Before there are pods that it is to shield.
    let is_shielded = is_free && work.network(network).await?;
    let mut may_go_on = true;
    for children in serving {
        may_go_on = !children.is_new || is_shielded;
        may_go_on = may_go_on && Box::pin(work.revision(children)).await?;
    }
    let mut is_switched = services.is_none();
    if let Some(Services { endpoints, stable }) = services.filter(|_| may_go_on) {
        is_switched = work.put(endpoints, Compared::Everything).await?;
        is_switched &= work.put(stable, Compared::Everything).await?;
    }
    match budget {
        Some(budget) if may_go_on => drop(work.put(budget, Compared::Everything).await?),
        Some(_) => {}
        None => {
            let removed = cluster.remove::<PodDisruptionBudget>(plan, plan.name.as_str()).await;
            work.note(removed)?;
        }
    }
    for children in others {
        if !children.is_new || is_shielded && work.is_free(&children, None).await? {
            Box::pin(work.revision(children)).await?;
        }
    }
    work.applied.is_switched = is_switched;
    for revision in goes.iter().filter(|_| is_switched) {
        work.retire(revision).await?;
    }
    Ok(work.applied)
}

struct Work<'a> {
    cluster: &'a Cluster,
    plan: &'a Plan,
    applied: Applied,
}

impl Work<'_> {
    /// Whether the pods are reached by those alone who may, or by everyone where nothing else is asked for.
    async fn network(&mut self, network: Option<NetworkPolicy>) -> Result<bool, ApplyError> {
        if let Some(network) = network {
            return self.put(network, Compared::Exactly).await;
        }
        let removed = self.cluster.remove::<NetworkPolicy>(self.plan, &self.plan.name.network_policy()).await;
        self.note(removed)?;
        Ok(true)
    }

    /// Whether all names of a revision that is to be made are free, so that nothing is made beside what is taken.
    async fn is_free(
        &mut self,
        children: &RevisionChildren,
        services: Option<&Services>,
    ) -> Result<bool, ApplyError> {
        let (cluster, plan) = (self.cluster, self.plan);
        let RevisionChildren { snapshot, data, config, deployment, .. } = children;
        let data = data.as_ref().and_then(|data| data.config_map.as_ref());
        let mut is_free = self.note(cluster.claim(plan, Some(snapshot)).await)?.is_some();
        is_free &= self.note(cluster.claim(plan, data).await)?.is_some();
        is_free &= self.note(cluster.claim(plan, Some(config)).await)?.is_some();
        is_free &= self.note(cluster.claim(plan, Some(deployment)).await)?.is_some();
        if let Some(Services { endpoints, stable }) = services {
            is_free &= self.note(cluster.claim(plan, Some(endpoints)).await)?.is_some();
            is_free &= self.note(cluster.claim(plan, Some(stable)).await)?.is_some();
        }
        Ok(is_free)
    }

    /// Writes the children of a revision; whether what relies on them may be written too. Of a new revision each is written
    /// before the next, which relies on it; of one that is there each is maintained by itself.
    async fn revision(&mut self, children: RevisionChildren) -> Result<bool, ApplyError> {
        let kept = Box::pin(self.cluster.keep(self.plan, &children)).await;
        match self.note(kept)? {
            Some(Kept { repairs, is_lost }) => {
                self.applied.repairs.extend(repairs);
                self.applied.lost.extend(is_lost.then(|| children.revision.clone()));
            }
            None if children.is_new => return Ok(false),
            None => {}
        }
        let RevisionChildren { snapshot, data, config, deployment, is_new, .. } = children;
        if !self.put_of(is_new, snapshot, Compared::Metadata).await? && is_new {
            return Ok(false);
        }
        for config_map in data.and_then(|data| data.config_map).into_iter().chain([config]) {
            if !self.put_of(is_new, config_map, Compared::Metadata).await? && is_new {
                return Ok(false);
            }
        }
        Ok(self.put_of(is_new, deployment, Compared::Everything).await? || !is_new)
    }

    /// Whether a child of a revision is as it should be. All names of a new revision were claimed just before: to look
    /// again would be a call for each.
    async fn put_of<K>(&mut self, is_new: bool, child: K, compared: Compared) -> Result<bool, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        if is_new { self.write(child, compared).await } else { self.put(child, compared).await }
    }

    /// Whether the child is as it should be.
    async fn put<K>(&mut self, child: K, compared: Compared) -> Result<bool, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        let (cluster, plan) = (self.cluster, self.plan);
        if self.note(cluster.claim(plan, Some(&child)).await)?.is_none() {
            return Ok(false);
        }
        self.write(child, compared).await
    }

    /// The same for a child whose name is claimed.
    async fn write<K>(&mut self, child: K, compared: Compared) -> Result<bool, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        let put = Box::pin(self.cluster.put(self.plan, child, compared)).await;
        match self.note(put)? {
            Some(Put::Done(repair)) => {
                self.applied.repairs.extend(repair);
                Ok(true)
            }
            Some(Put::Later(left)) => {
                self.applied.again = Some(self.applied.again.map_or(left, |again| again.min(left)));
                Ok(false)
            }
            None => Ok(false),
        }
    }

    async fn retire(&mut self, revision: &str) -> Result<(), ApplyError> {
        let (cluster, plan) = (self.cluster, self.plan);
        let (object, data) = (plan.name.revision_object(revision), plan.name.data_object(revision));
        let removed = cluster.remove::<Deployment>(plan, &object).await;
        if self.note(removed)?.is_some() {
            let removed = cluster.remove::<ConfigMap>(plan, &object).await;
            self.note(removed)?;
            let removed = cluster.remove::<ConfigMap>(plan, &data).await;
            self.note(removed)?;
            let removed = cluster.remove::<ControllerRevision>(plan, &object).await;
            self.note(removed)?;
        }
        Ok(())
    }

    /// Takes a failure down, unless nothing more can be written.
    fn note<T>(&mut self, ended: Result<T, ApplyError>) -> Result<Option<T>, ApplyError> {
        match ended {
            Ok(done) => return Ok(Some(done)),
            Err(ApplyError::Hindered(trouble)) => {
                // The same name may be looked at twice.
                if !self.applied.blocked.contains(&trouble) {
                    self.applied.blocked.push(trouble);
                }
            }
            Err(ApplyError::Call(error)) if !error.stops_all() => {
                self.applied.failed.get_or_insert(error);
            }
            Err(error @ (ApplyError::NamespaceGoes | ApplyError::Call(_))) => return Err(error),
        }
        Ok(None)
    }
}
