//! Every write that the operator makes: the one file that does, while the fence is open.
//!
//! Comes in: children, a status, an announcement. Goes out: what came of it. Never: a write that would change
//! nothing, and never one over an object that belongs to somebody else.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::CATALOGUE_SERVICE;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta, Request};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::call::{ApplyError, CallError, CallTarget, read, write};
use crate::api::fence::Fence;
use crate::apply::diff;
use crate::apply::ownership;
use crate::backoff::{Backoff, BackoffPolicy};
use crate::caches::contents::ContentCache;
use crate::caches::stores::{Child, Stores};
use crate::children::service;
use crate::external_changes::{AppliedRecords, ExternalChange, Repair};
use crate::labels::MANAGER;
use crate::metrics::Metrics;
use crate::spec::DesiredState;
use crate::status::events::{self, Announcement};

/// How repairs of one object slow down where somebody else changes it again each time.
const REPAIRS: BackoffPolicy = BackoffPolicy {
    free_attempts: 3,
    initial_delay: Duration::from_secs(5),
    max_delay: Duration::from_mins(1),
    reset_after: Duration::from_mins(5),
};

/// The API server, and what the watches know of it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    fence: Fence,
    metrics: Metrics,
    pub(crate) stores: Stores,
    pub(crate) applied_records: Arc<AppliedRecords>,
    repairs: Arc<Backoff>,
    pub(crate) contents: Arc<ContentCache>,
}

/// What came of the wish that an object is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is, and was written where it was not.
    Done(Option<Repair>),
    /// Somebody else changes it all the time: it is written after this.
    Delayed(Duration),
}

/// What of an object may differ at all.
#[derive(Clone, Copy, Debug)]
pub enum Comparison {
    /// All that the operator sets, and nothing added where that matters.
    ManagedFields,
    /// The same, and the spec has nothing else: what is added to it would admit others.
    Exact,
    /// The rest is immutable, and what is in a `ConfigMap` is not kept in memory.
    Metadata,
}

impl Cluster {
    /// Writes through `client` what differs from `stores`, while `fence` is open.
    pub fn new(client: Client, fence: Fence, metrics: Metrics, stores: Stores) -> Self {
        let repairs = Arc::new(Backoff::new(REPAIRS));
        Self {
            client,
            fence,
            metrics,
            stores,
            applied_records: Arc::default(),
            repairs,
            contents: Arc::default(),
        }
    }

    /// Forgets what was known of models that are gone.
    fn forget(&self) {
        if self.applied_records.len() > self.stores.models.len() {
            let existing: HashSet<_> =
                self.stores.models.state().iter().filter_map(|model| model.uid()).collect();
            self.applied_records.retain(|uid| existing.contains(uid));
            self.repairs.retain(|key| key.split_once('/').is_some_and(|(uid, _)| existing.contains(uid)));
        }
        if self.contents.len() > self.stores.config_maps.len() {
            let is_there =
                |namespace: &str, name: &str| self.stores.child::<ConfigMap>(namespace, name).is_some();
            self.contents.retain(is_there);
        }
    }

    /// The `ConfigMap` of a user.
    pub async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, CallError> {
        let api: Api<ConfigMap> = self.api(namespace);
        read(CallTarget { verb: "read", kind: "ConfigMap", namespace, name }, api.get_opt(name)).await
    }

    /// Writes a status, if it says anything new.
    pub async fn write_status(
        &self,
        model: &PredictorModel,
        status: &PredictorModelStatus,
    ) -> Result<(), CallError> {
        if model.status.as_ref() == Some(status) {
            return Ok(());
        }
        let patch = json!({
            "apiVersion": PredictorModel::api_version(&()),
            "kind": PredictorModel::kind(&()),
            // Where the model was deleted and made again meanwhile, this status is not the new one's.
            "metadata": {"name": model.name_any(), "uid": model.metadata.uid},
            "status": status,
        });
        self.patch_status(&model.metadata, &manager(), &Patch::Apply(&patch)).await
    }

    /// Replaces the conditions of a model of which only the metadata can be read; the rest of its status stays.
    pub async fn write_conditions(
        &self,
        model: &ObjectMeta,
        conditions: &[Condition],
    ) -> Result<(), CallError> {
        let patch = json!({"metadata": {"uid": model.uid}, "status": {"conditions": conditions}});
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.patch_status(model, &parameters, &Patch::Merge(&patch)).await
    }

    async fn patch_status(
        &self,
        model: &ObjectMeta,
        parameters: &PatchParams,
        patch: &Patch<&Value>,
    ) -> Result<(), CallError> {
        let namespace = model.namespace.as_deref().unwrap_or_default();
        let name = model.name.as_deref().unwrap_or_default();
        // The answer is not read: it may be what this operator cannot read.
        let api: Api<PartialObjectMeta<PredictorModel>> = self.api(namespace);
        let target = CallTarget { verb: "report on", kind: "PredictorModel", namespace, name };
        write(&self.fence, target, api.patch_status(name, parameters, patch)).await?;
        self.metrics.count_write("PredictorModel");
        Ok(())
    }

    /// Publishes an Event about a model.
    pub async fn publish(&self, model: &PredictorModel, news: &Announcement) -> Result<(), CallError> {
        self.publish_about(model.object_ref(&()), news).await
    }

    /// Publishes an Event about what `model` names.
    pub async fn publish_about(&self, model: ObjectReference, news: &Announcement) -> Result<(), CallError> {
        let event = events::event(model, news, Timestamp::now());
        let (namespace, name) = (event.namespace().unwrap_or_default(), event.name_any());
        let (api, parameters) = (self.api::<Event>(&namespace), PostParams::default());
        let target = CallTarget { verb: "create", kind: "Event", namespace: &namespace, name: &name };
        write(&self.fence, target, api.create(&parameters, &event)).await?;
        self.metrics.count_write("Event");
        Ok(())
    }

    /// Keeps the Service that lists all models of a namespace while it has models, and removes it after the last. Returns
    /// when to look again though nothing changes.
    pub async fn reconcile_discovery_service(&self, namespace: &str) -> Result<Option<Duration>, CallError> {
        self.forget();
        let existing = self.stores.child::<Service>(namespace, CATALOGUE_SERVICE);
        if !self.stores.has_models(namespace) {
            if existing.is_some_and(|existing| ownership::is_own_discovery_service(&existing.metadata)) {
                self.delete::<Service>(namespace, CATALOGUE_SERVICE, DeleteParams::background()).await?;
            }
            return Ok(None);
        }
        match self.apply_discovery_service(namespace, existing.as_deref()).await {
            Err(error) if error.is_namespace_terminating() => Ok(None),
            ended => ended,
        }
    }

    async fn apply_discovery_service(
        &self,
        namespace: &str,
        existing: Option<&Service>,
    ) -> Result<Option<Duration>, CallError> {
        let manifest = value(&service::discovery());
        let key = format!("{namespace}/{CATALOGUE_SERVICE}");
        if let Some(existing) = existing {
            let live = value(existing);
            let removals = diff::removals(&manifest, &live);
            let is_up_to_date = diff::is_up_to_date(&manifest, &live);
            if is_up_to_date && removals.is_empty() {
                return Ok(None);
            }
            if let Some(remaining) = self.repairs.remaining(&key) {
                return Ok(Some(remaining));
            }
            self.repairs.record_failure(&key);
            if !removals.is_empty() {
                self.apply_removals::<Service>(&existing.metadata, removals).await?;
            }
            if is_up_to_date {
                return Ok(None);
            }
        } else {
            let taken = self.get_metadata::<Service>(namespace, CATALOGUE_SERVICE).await?;
            if taken.is_some_and(|taken| !ownership::is_own_discovery_service(&taken)) {
                tracing::warn!(
                    namespace,
                    "Service predictors was not made by the operator: the gateway cannot list the models of this namespace; delete it"
                );
                return Ok(None);
            }
        }
        self.patch::<Service>(namespace, CATALOGUE_SERVICE, &manifest).await.map(|_| None)
    }

    /// Fails where the child's name is taken. What is in the store was found by the model's uid, but may have got
    /// another controller; what is not may be a stranger's.
    pub async fn check_ownership<K>(
        &self,
        desired: &DesiredState,
        child: Option<&K>,
    ) -> Result<(), ApplyError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let Some(name) = child.map(kube::ResourceExt::name_any) else { return Ok(()) };
        let metadata = match self.stores.child::<K>(&desired.namespace, &name) {
            Some(seen) => Some(seen.meta().clone()),
            None => self
                .get_metadata::<K>(&desired.namespace, &name)
                .await
                .map_err(CallError::into_apply_error)?,
        };
        let Some(metadata) = metadata else { return Ok(()) };
        ownership::check(&K::kind(&()), &metadata, &desired.name, &desired.uid).map_err(ApplyError::Blocked)
    }

    async fn get_metadata<K>(&self, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, CallError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let api = self.api::<K>(namespace);
        let target = CallTarget { verb: "look for", kind: &K::kind(&()), namespace, name };
        Ok(read(target, api.get_metadata_opt(name)).await?.map(|live| live.metadata))
    }

    /// Makes a child what it should be. Its name was claimed.
    pub async fn put<K>(
        &self,
        desired: &DesiredState,
        child: K,
        comparison: Comparison,
    ) -> Result<PutOutcome, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        let (kind, name) = (K::kind(&()), child.name_any());
        let of = (&*kind, name.as_str());
        let (manifest, seen) = (value(&child), self.stores.child::<K>(&desired.namespace, &name));
        let meta = seen.as_ref().map(|seen| seen.meta());
        let has_labels = meta.is_some_and(|meta| {
            diff::is_up_to_date(&json!({"metadata": manifest["metadata"]}), &json!({"metadata": meta}))
        });
        let (is_up_to_date, removals) = match (&seen, comparison) {
            (Some(seen), Comparison::ManagedFields) => {
                let live = value(&**seen);
                (diff::is_up_to_date(&manifest, &live), diff::removals(&manifest, &live))
            }
            (Some(seen), Comparison::Exact) => {
                let live = value(&**seen);
                (diff::is_up_to_date(&manifest, &live) && diff::spec_equals(&manifest, &live), Vec::new())
            }
            (Some(_), Comparison::Metadata) | (None, _) => (has_labels, Vec::new()),
        };
        if let Some(meta) = meta {
            if is_up_to_date && removals.is_empty() {
                self.applied_records.record_applied(&desired.uid, of, &manifest, meta);
                return Ok(PutOutcome::Done(None));
            }
            if has_labels && self.applied_records.is_unchanged(&desired.uid, of, &manifest, meta) {
                return Ok(PutOutcome::Done(None));
            }
        }
        let key = format!("{}/{kind}/{name}", desired.uid);
        if let Some(remaining) = self.repairs.remaining(&key) {
            return Ok(PutOutcome::Delayed(remaining));
        }
        let is_added_to = !removals.is_empty();
        let mut written = None;
        if let Some(meta) = meta.filter(|_| is_added_to) {
            written =
                Some(self.apply_removals::<K>(meta, removals).await.map_err(CallError::into_apply_error)?);
        }
        let written = match written.filter(|_| is_up_to_date) {
            Some(written) => written,
            None => self
                .patch::<K>(&desired.namespace, &name, &manifest)
                .await
                .map_err(CallError::into_apply_error)?,
        };
        let change = self.applied_records.external_change(&desired.uid, of, &manifest, (meta, &written));
        // The operator itself never adds what it removes.
        let is_changed = meta.is_some_and(|meta| meta.resource_version != written.resource_version);
        let change = change.or((is_added_to && is_changed).then_some(ExternalChange::Changed));
        self.applied_records.record_applied(&desired.uid, of, &manifest, &written);
        if change.is_some() {
            let pause = self.repairs.record_failure(&key);
            if !pause.is_zero() {
                tracing::warn!(namespace = desired.namespace, %kind, name, ?pause, "an object is changed again and again");
            }
        }
        Ok(PutOutcome::Done(change.map(|change| Repair { kind: kind.into_owned(), name, change })))
    }

    pub(crate) async fn patch<K>(
        &self,
        namespace: &str,
        name: &str,
        manifest: &Value,
    ) -> Result<ObjectMeta, CallError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let (api, manager, patch) = (self.api::<K>(namespace), manager(), Patch::Apply(manifest));
        let target = CallTarget { verb: "apply", kind: &K::kind(&()), namespace, name };
        let patched = write(&self.fence, target, api.patch_metadata(name, &manager, &patch)).await?;
        self.metrics.count_write(&K::kind(&()));
        Ok(patched.metadata)
    }

    /// Takes away from an object what others added, unless it was changed since it was `seen`.
    async fn apply_removals<K>(
        &self,
        seen: &ObjectMeta,
        removals: Vec<Value>,
    ) -> Result<ObjectMeta, CallError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let namespace = seen.namespace.as_deref().unwrap_or_default();
        let name = seen.name.as_deref().unwrap_or_default();
        let is_same =
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": seen.resource_version});
        let operations = Value::Array(std::iter::once(is_same).chain(removals).collect());
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let removing = async {
            let request = Request::new(K::url_path(&(), Some(namespace)));
            let built = request.patch(name, &parameters, &Patch::Merge(&operations));
            let mut request = built.map_err(kube::Error::BuildRequest)?;
            // kube has this kind of patch only with a crate of its own.
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json-patch+json"));
            self.client.request::<PartialObjectMeta<K>>(request).await
        };
        let target = CallTarget { verb: "remove additions from", kind: &K::kind(&()), namespace, name };
        let patched = write(&self.fence, target, removing).await?;
        self.metrics.count_write(&K::kind(&()));
        Ok(patched.metadata)
    }

    /// Removes a child, if it is there and is the model's own.
    pub async fn remove<K>(&self, desired: &DesiredState, name: &str) -> Result<(), ApplyError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        self.applied_records.forget_child(&desired.uid, (&K::kind(&()), name));
        let Some(seen) = self.stores.child::<K>(&desired.namespace, name) else { return Ok(()) };
        let is_own = ownership::check(&K::kind(&()), seen.meta(), &desired.name, &desired.uid).is_ok();
        if !is_own || seen.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let same = Preconditions { uid: seen.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        self.delete::<K>(&desired.namespace, name, params).await.map_err(CallError::into_apply_error)
    }

    pub(crate) async fn delete<K>(
        &self,
        namespace: &str,
        name: &str,
        params: DeleteParams,
    ) -> Result<(), CallError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let api = self.api::<K>(namespace);
        let target = CallTarget { verb: "delete", kind: &K::kind(&()), namespace, name };
        match write(&self.fence, target, api.delete(name, &params)).await {
            Ok(_) => self.metrics.count_write(&K::kind(&())),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn manager() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// The object as JSON. The types that come in have only maps with text as keys, so it always is one.
pub(crate) fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
