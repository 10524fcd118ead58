//! Writes the children of a model: first those of the serving revision, then the others, each independently.
//!
//! Invariant: a failure in one revision does not stop another, and a revision is deleted only after the Services that
//! no longer select it were written.

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
use crate::apply::cluster::{Cluster, Comparison, PutOutcome};
use crate::apply::restore::RestoreResult;
use crate::caches::stores::Child;
use crate::children::{Children, RevisionChildren, Services};
use crate::external_changes::Repair;
use crate::reason::Diagnosis;
use crate::spec::DesiredState;

/// Result of writing the children of a model.
#[derive(Debug, Default)]
pub struct ApplyResult {
    /// Children that were restored after external changes.
    pub repairs: Vec<Repair>,
    /// Revisions whose data `ConfigMap` is lost and cannot be recreated.
    pub lost: BTreeSet<String>,
    /// Diagnoses of children that cannot be written. Those of the serving revision come first.
    pub blocked: Vec<Diagnosis>,
    /// The first failed call that is to be retried.
    pub failed: Option<CallError>,
    /// Whether the Services select the intended revision.
    pub is_switched: bool,
    /// Delay until an object that is repeatedly changed externally is written.
    pub retry_after: Option<Duration>,
}

impl ApplyResult {
    /// The diagnoses of all blocked children as one.
    pub fn blocker(&self) -> Option<Diagnosis> {
        let first = self.blocked.first()?;
        let messages: Vec<_> = self.blocked.iter().map(|diagnosis| diagnosis.message.as_str()).collect();
        Some(Diagnosis::new(first.reason, messages.join("; ")))
    }
}

/// Writes the children that differ. Fails only if nothing more can be written.
pub async fn apply(
    cluster: &Cluster,
    desired: &DesiredState,
    children: Children,
) -> Result<ApplyResult, ApplyError> {
    let Children { network_policy, revisions, services, disruption_budget, removed } = children;
    let mut writer = ChildWriter { cluster, desired, applied: ApplyResult::default() };
    let (serving, mut others): (Vec<_>, Vec<_>) = revisions.into_iter().partition(|children| children.serves);
    // Existing revisions before new ones.
    others.sort_by_key(|children| children.is_new);

    // For a new revision nothing is created if one of its names is taken.
    let mut names_are_free = true;
    for children in serving.iter().filter(|children| children.is_new) {
        names_are_free &= writer.names_are_free(children, services.as_ref()).await?;
    }
    // The NetworkPolicy comes before the pods it protects.
    let is_network_restricted = names_are_free && writer.network_policy(network_policy).await?;
    let mut can_continue = true;
    for children in serving {
        can_continue = !children.is_new || is_network_restricted;
        can_continue = can_continue && Box::pin(writer.revision(children)).await?;
    }
    let mut is_switched = services.is_none();
    if let Some(Services { endpoints, stable }) = services.filter(|_| can_continue) {
        is_switched = writer.put(endpoints, Comparison::ManagedFields).await?;
        is_switched &= writer.put(stable, Comparison::ManagedFields).await?;
    }
    match disruption_budget {
        Some(disruption_budget) if can_continue => {
            writer.put(disruption_budget, Comparison::ManagedFields).await?;
        }
        Some(_) => {}
        None => {
            let deleted = cluster.remove::<PodDisruptionBudget>(desired, desired.name.as_str()).await;
            writer.record(deleted)?;
        }
    }
    for children in others {
        if !children.is_new || is_network_restricted && writer.names_are_free(&children, None).await? {
            Box::pin(writer.revision(children)).await?;
        }
    }
    writer.applied.is_switched = is_switched;
    for revision in removed.iter().filter(|_| is_switched) {
        writer.remove_revision(revision).await?;
    }
    Ok(writer.applied)
}

struct ChildWriter<'a> {
    cluster: &'a Cluster,
    desired: &'a DesiredState,
    applied: ApplyResult,
}

impl ChildWriter<'_> {
    /// Writes or deletes the `NetworkPolicy`. Returns whether the network is as intended.
    async fn network_policy(&mut self, network_policy: Option<NetworkPolicy>) -> Result<bool, ApplyError> {
        if let Some(network_policy) = network_policy {
            return self.put(network_policy, Comparison::Exact).await;
        }
        let deleted =
            self.cluster.remove::<NetworkPolicy>(self.desired, &self.desired.name.network_policy()).await;
        self.record(deleted)?;
        Ok(true)
    }

    /// Whether all names of a new revision are free.
    async fn names_are_free(
        &mut self,
        children: &RevisionChildren,
        services: Option<&Services>,
    ) -> Result<bool, ApplyError> {
        let (cluster, desired) = (self.cluster, self.desired);
        let RevisionChildren { controller_revision, data, config, deployment, .. } = children;
        let data = data.as_ref().and_then(|data| data.config_map.as_ref());
        let mut names_are_free =
            self.record(cluster.check_ownership(desired, Some(controller_revision)).await)?.is_some();
        names_are_free &= self.record(cluster.check_ownership(desired, data).await)?.is_some();
        names_are_free &= self.record(cluster.check_ownership(desired, Some(config)).await)?.is_some();
        names_are_free &= self.record(cluster.check_ownership(desired, Some(deployment)).await)?.is_some();
        if let Some(Services { endpoints, stable }) = services {
            names_are_free &= self.record(cluster.check_ownership(desired, Some(endpoints)).await)?.is_some();
            names_are_free &= self.record(cluster.check_ownership(desired, Some(stable)).await)?.is_some();
        }
        Ok(names_are_free)
    }

    /// Writes the children of a revision. Returns whether dependent objects may be written. For a new revision each
    /// child must be written before the next, which depends on it; for an existing one each is maintained
    /// independently.
    async fn revision(&mut self, children: RevisionChildren) -> Result<bool, ApplyError> {
        let restored = Box::pin(self.cluster.restore(self.desired, &children)).await;
        match self.record(restored)? {
            Some(RestoreResult { repairs, is_data_copy_lost }) => {
                self.applied.repairs.extend(repairs);
                self.applied.lost.extend(is_data_copy_lost.then(|| children.revision.clone()));
            }
            None if children.is_new => return Ok(false),
            None => {}
        }
        let RevisionChildren { controller_revision, data, config, deployment, is_new, .. } = children;
        if !self.put_revision_child(is_new, controller_revision, Comparison::Metadata).await? && is_new {
            return Ok(false);
        }
        for config_map in data.and_then(|data| data.config_map).into_iter().chain([config]) {
            if !self.put_revision_child(is_new, config_map, Comparison::Metadata).await? && is_new {
                return Ok(false);
            }
        }
        Ok(self.put_revision_child(is_new, deployment, Comparison::ManagedFields).await? || !is_new)
    }

    /// Writes a child of a revision. The names of a new revision were checked just before, so they are not checked
    /// again.
    async fn put_revision_child<K>(
        &mut self,
        is_new: bool,
        child: K,
        comparison: Comparison,
    ) -> Result<bool, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        if is_new { self.write(child, comparison).await } else { self.put(child, comparison).await }
    }

    /// Checks the ownership of a child and writes it. Returns whether it matches.
    async fn put<K>(&mut self, child: K, comparison: Comparison) -> Result<bool, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        let (cluster, desired) = (self.cluster, self.desired);
        if self.record(cluster.check_ownership(desired, Some(&child)).await)?.is_none() {
            return Ok(false);
        }
        self.write(child, comparison).await
    }

    /// Writes a child whose ownership was checked. Returns whether it matches.
    async fn write<K>(&mut self, child: K, comparison: Comparison) -> Result<bool, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        let put = Box::pin(self.cluster.put(self.desired, child, comparison)).await;
        match self.record(put)? {
            Some(PutOutcome::Done(repair)) => {
                self.applied.repairs.extend(repair);
                Ok(true)
            }
            Some(PutOutcome::Delayed(remaining)) => {
                self.applied.retry_after = Some(
                    self.applied.retry_after.map_or(remaining, |retry_after| retry_after.min(remaining)),
                );
                Ok(false)
            }
            None => Ok(false),
        }
    }

    async fn remove_revision(&mut self, revision: &str) -> Result<(), ApplyError> {
        let (cluster, desired) = (self.cluster, self.desired);
        let (object, data) = (desired.name.revision_object(revision), desired.name.data_object(revision));
        let deleted = cluster.remove::<Deployment>(desired, &object).await;
        if self.record(deleted)?.is_some() {
            let deleted = cluster.remove::<ConfigMap>(desired, &object).await;
            self.record(deleted)?;
            let deleted = cluster.remove::<ConfigMap>(desired, &data).await;
            self.record(deleted)?;
            let deleted = cluster.remove::<ControllerRevision>(desired, &object).await;
            self.record(deleted)?;
        }
        Ok(())
    }

    /// Records a failure, unless it means that nothing more can be written.
    fn record<T>(&mut self, ended: Result<T, ApplyError>) -> Result<Option<T>, ApplyError> {
        match ended {
            Ok(done) => return Ok(Some(done)),
            Err(ApplyError::Blocked(diagnosis)) => {
                // The same name may be checked twice.
                if !self.applied.blocked.contains(&diagnosis) {
                    self.applied.blocked.push(diagnosis);
                }
            }
            Err(ApplyError::Call(error)) if !error.affects_all_calls() => {
                self.applied.failed.get_or_insert(error);
            }
            Err(error @ (ApplyError::NamespaceTerminating | ApplyError::Call(_))) => return Err(error),
        }
        Ok(None)
    }
}
