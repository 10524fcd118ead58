//! Writes the children of a model: first those of the revision that serves, then the others, each by itself.
//!
//! Invariant: what cannot be written of one revision stops nothing of another, and a revision is removed only after the
//! Services were written that no longer select it.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{ApplyError, CallError};
use crate::cluster::{Cluster, Compared, Put};
use crate::desired::{Children, RevisionChildren, Services};
use crate::marks::Repair;
use crate::plan::Plan;
use crate::reason::Trouble;
use crate::stores::Child;

/// What came of writing the children of a model.
#[derive(Debug, Default)]
pub struct Applied {
    /// Which children somebody else had changed.
    pub repairs: Vec<Repair>,
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
    let Children { revisions, services, budget, goes } = children;
    let mut work = Work { cluster, plan, applied: Applied::default() };
    let (serving, mut others): (Vec<_>, Vec<_>) = revisions.into_iter().partition(|children| children.serves);
    // Those that are there already before those that are to come.
    others.sort_by_key(|children| children.is_new);

    let mut may_go_on = true;
    for children in serving {
        may_go_on = !children.is_new || work.is_free(&children, services.as_ref()).await?;
        may_go_on = may_go_on && work.revision(children).await?;
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
        if !children.is_new || work.is_free(&children, None).await? {
            work.revision(children).await?;
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
    /// Whether all names of a revision that is to be made are free, so that nothing is made beside what is taken.
    async fn is_free(
        &mut self,
        children: &RevisionChildren,
        services: Option<&Services>,
    ) -> Result<bool, ApplyError> {
        let (cluster, plan) = (self.cluster, self.plan);
        let RevisionChildren { data, config, deployment, .. } = children;
        let mut is_free = self.note(cluster.claim(plan, data.as_ref()).await)?.is_some();
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
        let RevisionChildren { data, config, deployment, is_new, .. } = children;
        for config_map in data.into_iter().chain([config]) {
            if !self.put(config_map, Compared::Metadata).await? && is_new {
                return Ok(false);
            }
        }
        Ok(self.put(deployment, Compared::Everything).await? || !is_new)
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
        let put = Box::pin(cluster.put(plan, child, compared)).await;
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
