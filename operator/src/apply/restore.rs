//! What a revision is made from stays what it was: content that was exchanged is replaced before anything is applied.
//!
//! Nothing that is found here decides what runs. A serving config that differs from the snapshot is made again; a copy of
//! the data only where the data are at hand.

use std::collections::BTreeMap;

use canopy_resource::revision::sha256;
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
use crate::external_changes::{ExternalChange, Repair};
use crate::labels;
use crate::labels::REVISION;
use crate::pod::template::{self, DATA, SERVING_KEY};
use crate::pod::template_check::RevisionRef;
use crate::revision::snapshot::{DataFile, Snapshot};
use crate::spec::{DesiredState, Target, TrainingData};
use crate::state::Objects;

/// What was found.
#[derive(Debug, Default)]
pub struct RestoreResult {
    /// What was replaced.
    pub repairs: Vec<Repair>,
    /// Whether the copy of the data is gone and cannot be made again.
    pub is_data_copy_lost: bool,
}

/// A revision that an earlier operator made, as far as it can be read back.
#[derive(Debug)]
pub struct AdoptableRevision {
    /// What it is made from, where the watch has only not shown it yet.
    snapshot: Option<Snapshot>,
    deployment: std::sync::Arc<Deployment>,
    serving: Option<String>,
    data: Option<DataFile>,
}

impl AdoptableRevision {
    /// What the revision is made from. Where it is the one that the spec still asks for, the spec says what its config and
    /// its data must be; of an older one only its own objects can.
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
            let serving = serving.ok_or("its serving config is gone, or was exchanged")?;
            return Snapshot::adopt(&deployment, serving, data, revision_ref);
        };
        let is_same = |text: &String| serde_json::from_str(text).is_ok_and(|config| target.config == config);
        // The spelling of an earlier predictor's config is kept: its predictor might not read another.
        let planned = || Some(target.snapshot.serving.clone()).filter(is_expected);
        let serving = serving.filter(is_same).or_else(planned).ok_or("its serving config was exchanged")?;
        let volumes = deployment.spec.template.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let has_data = volumes.into_iter().any(|volume| volume.name == DATA);
        let data = target.data.as_ref().filter(|_| has_data).map(|data| data.file.clone());
        let snapshot = Snapshot::adopt(&deployment, serving, data, revision_ref)?;
        Ok(Snapshot { spec_digest: Some(target.spec_digest.clone()), ..snapshot })
    }
}

impl Cluster {
    /// The revisions that have a Deployment and no snapshot that counts: an earlier operator made them.
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

    /// Whether the copy of the target's data must be made while its text is not at hand.
    pub async fn lacks_data(&self, desired: &DesiredState) -> Result<bool, CallError> {
        let Ok(Target { revision, data: Some(TrainingData { file, text: None }), .. }) = &desired.target
        else {
            return Ok(false);
        };
        let content = self.content(&desired.namespace, &desired.name.data_object(revision)).await?;
        let is_as_made = content.is_some_and(|content| {
            let has = content.metadata.labels.clone().unwrap_or_default();
            let is_known = labels::pods_of_revision(&desired.uid, revision)
                .into_iter()
                .chain([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])
                .all(|(key, value)| has.get(&key) == Some(&value));
            let is_owned = content.metadata.owner_references.iter().flatten().any(|o| *o == desired.owner);
            content.matches(&file.file, &file.sha256) && is_known && is_owned
        });
        Ok(!is_as_made)
    }

    /// Replaces what was exchanged of a revision.
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
        let file = DataFile {
            file: SERVING_KEY.to_owned(),
            sha256: serving.map(|text| sha256(text)).unwrap_or_default(),
        };
        let name = config.name_any();
        let (_, repair) = self.restore_config_map(desired, (&name, &file), Some(config)).await?;
        result.repairs.extend(repair);
        if let Some(DataCopy { name, file, config_map }) = data {
            let (is_there, repair) =
                self.restore_config_map(desired, (name, file), config_map.as_ref()).await?;
            result.repairs.extend(repair);
            result.is_data_copy_lost = !is_there && config_map.is_none();
        }
        Ok(result)
    }

    /// A snapshot that the operator did not write decides nothing, but its data cannot be changed.
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
        tracing::warn!(namespace, name, why, "a ControllerRevision was not written by the operator");
        self.replace(desired, Some(child), seen.meta()).await
    }

    /// Whether the content is there as it must be; and what was replaced.
    async fn restore_config_map(
        &self,
        desired: &DesiredState,
        (name, file): (&str, &DataFile),
        child: Option<&ConfigMap>,
    ) -> Result<(bool, Option<Repair>), ApplyError> {
        let Some(live) = self.content(&desired.namespace, name).await.map_err(CallError::into_apply_error)?
        else {
            return Ok((false, None));
        };
        let is_same = live.matches(&file.file, &file.sha256);
        // What an earlier operator wrote is left as it is, unless something of it must be changed.
        let is_changed = child.is_some_and(|child| {
            let (child, live) = (json!({"metadata": child.metadata}), json!({"metadata": live.metadata}));
            !diff::is_up_to_date(&child, &live)
        });
        if is_same && !(live.has_other_content() && is_changed) {
            return Ok((true, None));
        }
        let repair = self.replace(desired, child, &live.metadata).await?;
        // A change of metadata is told where it is put right.
        Ok((false, repair.filter(|_| !is_same)))
    }

    /// What is in one of the operator's own `ConfigMap`s.
    async fn content(&self, namespace: &str, name: &str) -> Result<Option<ConfigMapContent>, CallError> {
        let seen = self.stores.child::<ConfigMap>(namespace, name);
        let known = seen.and_then(|seen| self.contents.get((namespace, name), &seen.metadata));
        if known.is_some() {
            return Ok(known);
        }
        let live = self.read_config_map(namespace, name).await?.map(ConfigMapContent::of);
        if let Some(content) = &live {
            self.contents.put((namespace, name), content.clone());
        }
        Ok(live)
    }

    /// Deletes an object that is in the place of `wanted`, and makes that.
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
        // Another's is told of where the name is claimed.
        if ownership::check(&kind, live, &desired.name, &desired.uid).is_err()
            || live.deletion_timestamp.is_some()
        {
            return Ok(None);
        }
        let same = Preconditions { uid: live.uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        self.applied_records.forget_child(&desired.uid, (&kind, &name));
        self.delete::<K>(&desired.namespace, &name, params).await.map_err(CallError::into_apply_error)?;
        if let Some(child) = child {
            let written = self.patch::<K>(&desired.namespace, &name, &value(child)).await;
            written.map_err(CallError::into_apply_error)?;
        }
        Ok(Some(Repair { kind: kind.into_owned(), name, change: ExternalChange::Replaced }))
    }
}
