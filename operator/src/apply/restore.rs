//! Restores the content of a revision before it is applied: `ConfigMap`s and snapshots that were exchanged are
//! replaced.
//!
//! Content read here never decides what runs. A serving config is recreated from the snapshot; a data `ConfigMap` only
//! if the contents of its files are at hand.

use std::collections::BTreeMap;

use canopy_resource::digest::sha256;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Preconditions};
use kube::core::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::call::{ApplyError, CallError, CallTarget, read};
use crate::apply::cluster::{Cluster, value};
use crate::apply::diff;
use crate::apply::ownership;
use crate::caches::contents::ConfigMapContent;
use crate::caches::stores::Child;
use crate::children::{DataCopy, RevisionChildren};
use crate::external_changes::{ChildRef, ExternalChange, Repair};
use crate::labels;
use crate::labels::REVISION;
use crate::pod::template::{self, DATA, SERVING_KEY};
use crate::pod::template_check::RevisionRef;
use crate::revision::snapshot::{DataFile, Snapshot};
use crate::spec::{DesiredState, Target};
use crate::state::Objects;

/// Result of restoring a revision.
#[derive(Debug, Default)]
pub struct RestoreResult {
    /// Objects that were replaced.
    pub repairs: Vec<Repair>,
    /// Whether the data `ConfigMap` is lost and cannot be recreated.
    pub is_data_copy_lost: bool,
}

/// A revision from an earlier version of the operator, as far as it can be read back.
#[derive(Debug)]
pub struct AdoptableRevision {
    /// The snapshot, if it exists and the cache lags.
    snapshot: Option<Snapshot>,
    deployment: std::sync::Arc<Deployment>,
    serving: Option<String>,
    /// Earlier versions had one file at most.
    data: Option<DataFile>,
}

impl AdoptableRevision {
    /// Creates the snapshot of the revision. For the revision that the spec still asks for, serving config and data
    /// must match the spec; for an older one only its own objects are known.
    pub fn into_snapshot(
        self,
        target: Option<&Target>,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Snapshot, String> {
        let Self { snapshot, deployment, serving, data } = self;
        if let Some(snapshot) = snapshot {
            return Ok(snapshot);
        }
        let expected = template::config_sha256(&deployment.spec.template);
        let is_expected = |text: &String| expected.is_none_or(|expected| sha256(text) == expected);
        let serving = serving.filter(is_expected);
        let Some(target) = target else {
            let serving = serving.ok_or("its serving config is missing or was replaced")?;
            return Snapshot::adopt(&deployment, serving, Vec::from_iter(data), revision_ref);
        };
        let is_same = |text: &String| serde_json::from_str(text).is_ok_and(|config| target.config == config);
        // The text of the earlier serving config is kept, because the earlier predictor might not read another.
        let planned = || Some(target.snapshot.serving.clone()).filter(is_expected);
        let serving = serving.filter(is_same).or_else(planned).ok_or("its serving config was replaced")?;
        let volumes = deployment.spec.template.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let has_data = volumes.into_iter().any(|volume| volume.name == DATA);
        let data = target.data.iter().filter(|_| has_data).map(|data| data.file.clone()).collect();
        let snapshot = Snapshot::adopt(&deployment, serving, data, revision_ref)?;
        Ok(Snapshot { spec_digest: Some(target.spec_digest.clone()), ..snapshot })
    }
}

impl Cluster {
    /// Finds revisions with a Deployment and without a valid snapshot: an earlier version of the operator created
    /// them.
    pub async fn adoptable(
        &self,
        revision_ref: RevisionRef<'_>,
        objects: &Objects,
        snapshots: &BTreeMap<String, Snapshot>,
    ) -> Result<BTreeMap<String, AdoptableRevision>, CallError> {
        let mut adoptable = BTreeMap::new();
        for deployment in &objects.deployments {
            let Some(revision) = deployment.labels().get(REVISION) else { continue };
            if snapshots.contains_key(revision)
                || deployment.name_any() != revision_ref.model.revision_object(revision)
            {
                continue;
            }
            let (namespace, name) = (revision_ref.namespace, deployment.name_any());
            let call = CallTarget { verb: "read", kind: "ControllerRevision", namespace, name: &name };
            let controller_revision =
                read(call, self.api::<ControllerRevision>(namespace).get_opt(&name)).await?;
            let snapshot = controller_revision
                .and_then(|live| Snapshot::read(&live, RevisionRef { revision, ..revision_ref }).ok());
            let config = self.read_config_map(revision_ref.namespace, &deployment.name_any()).await?;
            let serving = config.and_then(|config| config.data?.remove(SERVING_KEY));
            let data =
                self.content(revision_ref.namespace, &revision_ref.model.data_object(revision)).await?;
            let data = data.and_then(|content| {
                let file = content.first_key()?.clone();
                Some(DataFile { sha256: content.immutable_digest(&file)?.clone(), file })
            });
            adoptable.insert(
                revision.clone(),
                AdoptableRevision { snapshot, deployment: deployment.clone(), serving, data },
            );
        }
        Ok(adoptable)
    }

    /// Whether the data `ConfigMap` of the target must be created and the contents of the files are not at hand.
    pub async fn lacks_data(&self, desired: &DesiredState) -> Result<bool, CallError> {
        let Ok(Target { revision, data, snapshot, .. }) = &desired.target else { return Ok(false) };
        if data.iter().all(|data| data.content.is_some()) {
            return Ok(false);
        }
        let content = self.content(&desired.namespace, &desired.name.data_object(revision)).await?;
        let is_as_made = content.is_some_and(|content| {
            let has = content.metadata.labels.clone().unwrap_or_default();
            let is_known = labels::pods_of_revision(&desired.uid, revision)
                .into_iter()
                .chain([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])
                .all(|(key, value)| has.get(&key) == Some(&value));
            let is_owned = content.metadata.owner_references.iter().flatten().any(|o| *o == desired.owner);
            content.matches(&snapshot.data) && is_known && is_owned
        });
        Ok(!is_as_made)
    }

    /// Replaces objects of a revision whose content was exchanged.
    pub async fn restore(
        &self,
        desired: &DesiredState,
        children: &RevisionChildren,
    ) -> Result<RestoreResult, ApplyError> {
        let RevisionChildren { revision, controller_revision, data, config, .. } = children;
        let revision_ref =
            RevisionRef { model: &desired.name, namespace: &desired.namespace, uid: &desired.uid, revision };
        let mut result = RestoreResult::default();
        result
            .repairs
            .extend(self.restore_controller_revision(desired, controller_revision, revision_ref).await?);
        let serving = config.data.as_ref().and_then(|data| data.get(SERVING_KEY));
        let file = DataFile { file: SERVING_KEY.to_owned(), sha256: serving.map(sha256).unwrap_or_default() };
        let name = config.name_any();
        let (_, repair) = self.restore_config_map(desired, &name, &[file], Some(config)).await?;
        result.repairs.extend(repair);
        if let Some(DataCopy { name, files, config_map }) = data {
            let (is_there, repair) =
                self.restore_config_map(desired, name, files, config_map.as_ref()).await?;
            result.repairs.extend(repair);
            result.is_data_copy_lost = !is_there && config_map.is_none();
        }
        Ok(result)
    }

    /// Replaces a `ControllerRevision` that the operator did not write, because its data are immutable.
    async fn restore_controller_revision(
        &self,
        desired: &DesiredState,
        child: &ControllerRevision,
        revision_ref: RevisionRef<'_>,
    ) -> Result<Option<Repair>, ApplyError> {
        let Some(seen) = self.stores.child::<ControllerRevision>(&desired.namespace, &child.name_any())
        else {
            return Ok(None);
        };
        let Err(why) = Snapshot::read(&seen, revision_ref) else { return Ok(None) };
        let (namespace, name) = (&desired.namespace, child.name_any());
        tracing::warn!(
            namespace,
            name,
            why,
            "a ControllerRevision was not written by the operator and is replaced"
        );
        self.replace(desired, Some(child), seen.meta()).await
    }

    /// Restores a `ConfigMap`. Returns whether its content was correct, and the repair if there was one.
    async fn restore_config_map(
        &self,
        desired: &DesiredState,
        name: &str,
        files: &[DataFile],
        child: Option<&ConfigMap>,
    ) -> Result<(bool, Option<Repair>), ApplyError> {
        let Some(live) = self.content(&desired.namespace, name).await.map_err(CallError::into_apply_error)?
        else {
            return Ok((false, None));
        };
        let is_same = live.matches(files);
        // A ConfigMap of an earlier version is left as it is unless its metadata must change.
        let is_changed = child.is_some_and(|child| {
            let (child, live) = (json!({"metadata": child.metadata}), json!({"metadata": live.metadata}));
            !diff::is_up_to_date(&child, &live)
        });
        if is_same && !(live.has_other_content() && is_changed) {
            return Ok((true, None));
        }
        let repair = self.replace(desired, child, &live.metadata).await?;
        // Metadata changes are reported where they are written.
        Ok((false, repair.filter(|_| !is_same)))
    }

    /// The content of one of the operator's `ConfigMap`s.
    async fn content(&self, namespace: &str, name: &str) -> Result<Option<ConfigMapContent>, CallError> {
        let seen = self.stores.child::<ConfigMap>(namespace, name);
        let known = seen.and_then(|seen| self.contents.get(namespace, name, &seen.metadata));
        if known.is_some() {
            return Ok(known);
        }
        let live = self.read_config_map(namespace, name).await?.map(ConfigMapContent::of);
        if let Some(content) = &live {
            self.contents.put(namespace, name, content.clone());
        }
        Ok(live)
    }

    /// Deletes an object and creates `child` in its place.
    async fn replace<K>(
        &self,
        desired: &DesiredState,
        child: Option<&K>,
        live: &ObjectMeta,
    ) -> Result<Option<Repair>, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let (kind, name) = (K::kind(&()), live.name.clone().unwrap_or_default());
        // Objects of others are reported by the ownership check.
        if ownership::check(&kind, live, &desired.name, &desired.uid).is_err()
            || live.deletion_timestamp.is_some()
        {
            return Ok(None);
        }
        let same = Preconditions { uid: live.uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        self.applied_records.forget_child(&desired.uid, ChildRef { kind: &kind, name: &name });
        self.delete::<K>(&desired.namespace, &name, params).await.map_err(CallError::into_apply_error)?;
        if let Some(child) = child {
            let written = self.patch::<K>(&desired.namespace, &name, &value(child)).await;
            written.map_err(CallError::into_apply_error)?;
        }
        Ok(Some(Repair { kind: kind.into_owned(), name, change: ExternalChange::Replaced }))
    }
}
