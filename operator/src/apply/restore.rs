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

use crate::api::call::{ApplyError, CallError, Target as Call, read};
use crate::apply::cluster::{Cluster, value};
use crate::apply::diff;
use crate::apply::ownership;
use crate::caches::contents::Content;
use crate::caches::stores::Child;
use crate::children::{DataCopy, RevisionChildren};
use crate::external_changes::{Harm, Repair};
use crate::labels;
use crate::labels::REVISION;
use crate::pod::template::{self, DATA, SERVING_KEY};
use crate::pod::template_check::Whose;
use crate::revision::snapshot::{DataFile, Frozen};
use crate::spec::{Data, Plan, Target};
use crate::state::Objects;

/// What was found.
#[derive(Debug, Default)]
pub struct Kept {
    /// What was replaced.
    pub repairs: Vec<Repair>,
    /// Whether the copy of the data is gone and cannot be made again.
    pub is_lost: bool,
}

/// A revision that an earlier operator made, as far as it can be read back.
#[derive(Debug)]
pub struct Adoptable {
    /// What it is made from, where the watch has only not shown it yet.
    frozen: Option<Frozen>,
    deployment: std::sync::Arc<Deployment>,
    serving: Option<String>,
    data: Option<DataFile>,
}

impl Adoptable {
    /// What the revision is made from. Where it is the one that the spec still asks for, the spec says what its config and
    /// its data must be; of an older one only its own objects can.
    pub fn freeze(self, target: Option<&Target>, whose: Whose<'_>) -> Result<Frozen, String> {
        let Self { frozen, deployment, serving, data } = self;
        if let Some(frozen) = frozen {
            return Ok(frozen);
        }
        let expected = template::config_sha256(&deployment.spec.template);
        let is_expected = |text: &String| expected.is_none_or(|expected| sha256(text) == expected);
        let serving = serving.filter(is_expected);
        let Some(target) = target else {
            let serving = serving.ok_or("its serving config is gone, or was exchanged")?;
            return Frozen::adopt(&deployment, serving, data, whose);
        };
        let is_same = |text: &String| serde_json::from_str(text).is_ok_and(|config| target.config == config);
        // The spelling of an earlier predictor's config is kept: its predictor might not read another.
        let planned = || Some(target.frozen.serving.clone()).filter(is_expected);
        let serving = serving.filter(is_same).or_else(planned).ok_or("its serving config was exchanged")?;
        let volumes = deployment.spec.template.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let has_data = volumes.into_iter().any(|volume| volume.name == DATA);
        let data = target.data.as_ref().filter(|_| has_data).map(|data| data.file.clone());
        let frozen = Frozen::adopt(&deployment, serving, data, whose)?;
        Ok(Frozen { meaning: Some(target.meaning.clone()), ..frozen })
    }
}

impl Cluster {
    /// The revisions that have a Deployment and no snapshot that counts: an earlier operator made them.
    pub async fn adoptable(
        &self,
        whose: Whose<'_>,
        objects: &Objects,
        frozen: &BTreeMap<String, Frozen>,
    ) -> Result<BTreeMap<String, Adoptable>, CallError> {
        let mut adoptable = BTreeMap::new();
        for deployment in &objects.deployments {
            let Some(revision) = deployment.labels().get(REVISION) else { continue };
            if frozen.contains_key(revision) || deployment.name_any() != whose.model.revision_object(revision)
            {
                continue;
            }
            let (namespace, name) = (whose.namespace, deployment.name_any());
            let call = Call { verb: "read", kind: "ControllerRevision", namespace, name: &name };
            let snapshot = read(call, self.api::<ControllerRevision>(namespace).get_opt(&name)).await?;
            let frozen = snapshot.and_then(|found| Frozen::read(&found, Whose { revision, ..whose }).ok());
            let config = self.read_config_map(whose.namespace, &deployment.name_any()).await?;
            let serving = config.and_then(|config| config.data?.remove(SERVING_KEY));
            let data = self.content(whose.namespace, &whose.model.data_object(revision)).await?;
            let data = data.and_then(|content| {
                let file = content.key()?.clone();
                Some(DataFile { sha256: content.fixed(&file)?.clone(), file })
            });
            adoptable.insert(
                revision.clone(),
                Adoptable { frozen, deployment: deployment.clone(), serving, data },
            );
        }
        Ok(adoptable)
    }

    /// Whether the copy of the target's data must be made while its text is not at hand.
    pub async fn lacks_data(&self, plan: &Plan) -> Result<bool, CallError> {
        let Ok(Target { revision, data: Some(Data { file, text: None }), .. }) = &plan.target else {
            return Ok(false);
        };
        let content = self.content(&plan.namespace, &plan.name.data_object(revision)).await?;
        let is_as_made = content.is_some_and(|content| {
            let has = content.metadata.labels.clone().unwrap_or_default();
            let is_known = labels::pods_of_revision(&plan.uid, revision)
                .into_iter()
                .chain([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])
                .all(|(key, value)| has.get(&key) == Some(&value));
            let is_owned = content.metadata.owner_references.iter().flatten().any(|o| *o == plan.owner);
            content.is(&file.file, &file.sha256) && is_known && is_owned
        });
        Ok(!is_as_made)
    }

    /// Replaces what was exchanged of a revision.
    pub async fn keep(&self, plan: &Plan, children: &RevisionChildren) -> Result<Kept, ApplyError> {
        let RevisionChildren { revision, snapshot, data, config, .. } = children;
        let whose = Whose { model: &plan.name, namespace: &plan.namespace, uid: &plan.uid, revision };
        let mut kept = Kept::default();
        kept.repairs.extend(self.keep_snapshot(plan, snapshot, whose).await?);
        let serving = config.data.as_ref().and_then(|data| data.get(SERVING_KEY));
        let file = DataFile {
            file: SERVING_KEY.to_owned(),
            sha256: serving.map(|text| sha256(text)).unwrap_or_default(),
        };
        let name = config.name_any();
        let (_, repair) = self.keep_config_map(plan, (&name, &file), Some(config)).await?;
        kept.repairs.extend(repair);
        if let Some(DataCopy { name, file, config_map }) = data {
            let (is_there, repair) = self.keep_config_map(plan, (name, file), config_map.as_ref()).await?;
            kept.repairs.extend(repair);
            kept.is_lost = !is_there && config_map.is_none();
        }
        Ok(kept)
    }

    /// A snapshot that the operator did not write decides nothing, but its data cannot be changed.
    async fn keep_snapshot(
        &self,
        plan: &Plan,
        wanted: &ControllerRevision,
        whose: Whose<'_>,
    ) -> Result<Option<Repair>, ApplyError> {
        let Some(seen) = self.stores.child::<ControllerRevision>(&plan.namespace, &wanted.name_any()) else {
            return Ok(None);
        };
        let Err(why) = Frozen::read(&seen, whose) else { return Ok(None) };
        let (namespace, name) = (&plan.namespace, wanted.name_any());
        tracing::warn!(namespace, name, why, "a ControllerRevision was not written by the operator");
        self.replace(plan, Some(wanted), seen.meta()).await
    }

    /// Whether the content is there as it must be; and what was replaced.
    async fn keep_config_map(
        &self,
        plan: &Plan,
        (name, file): (&str, &DataFile),
        wanted: Option<&ConfigMap>,
    ) -> Result<(bool, Option<Repair>), ApplyError> {
        let Some(found) = self.content(&plan.namespace, name).await.map_err(CallError::judged)? else {
            return Ok((false, None));
        };
        let is_same = found.is(&file.file, &file.sha256);
        // What an earlier operator wrote is left as it is, unless something of it must be changed.
        let is_changed = wanted.is_some_and(|wanted| {
            let (wanted, found) = (json!({"metadata": wanted.metadata}), json!({"metadata": found.metadata}));
            !diff::holds(&wanted, &found)
        });
        if is_same && !(found.has_more() && is_changed) {
            return Ok((true, None));
        }
        let repair = self.replace(plan, wanted, &found.metadata).await?;
        // A change of metadata is told where it is put right.
        Ok((false, repair.filter(|_| !is_same)))
    }

    /// What is in one of the operator's own `ConfigMap`s.
    async fn content(&self, namespace: &str, name: &str) -> Result<Option<Content>, CallError> {
        let seen = self.stores.child::<ConfigMap>(namespace, name);
        let known = seen.and_then(|seen| self.contents.get((namespace, name), &seen.metadata));
        if known.is_some() {
            return Ok(known);
        }
        let found = self.read_config_map(namespace, name).await?.map(Content::of);
        if let Some(content) = &found {
            self.contents.put((namespace, name), content.clone());
        }
        Ok(found)
    }

    /// Deletes an object that is in the place of `wanted`, and makes that.
    async fn replace<K>(
        &self,
        plan: &Plan,
        wanted: Option<&K>,
        found: &ObjectMeta,
    ) -> Result<Option<Repair>, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let (kind, name) = (K::kind(&()), found.name.clone().unwrap_or_default());
        // Another's is told of where the name is claimed.
        if ownership::check(&kind, found, &plan.name, &plan.uid).is_err()
            || found.deletion_timestamp.is_some()
        {
            return Ok(None);
        }
        let same = Preconditions { uid: found.uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        self.marks.is_no_more(&plan.uid, (&kind, &name));
        self.delete::<K>(&plan.namespace, &name, params).await.map_err(CallError::judged)?;
        if let Some(wanted) = wanted {
            let written = self.patch::<K>(&plan.namespace, &name, &value(wanted)).await;
            written.map_err(CallError::judged)?;
        }
        Ok(Some(Repair { kind: kind.into_owned(), name, harm: Harm::Exchanged }))
    }
}
