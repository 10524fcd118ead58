//! All writes of the operator, while the fence is open.
//!
//! Invariant: no write changes nothing, and none changes an object that does not belong to the model.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use canopy_contract::names::CATALOGUE_SERVICE;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta, Request};
use kube::runtime::events::{Event, Recorder, Reporter};
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
use crate::external_changes::{AppliedRecords, ChildRef, ExternalChange, ObservedWrite, Repair};
use crate::labels::MANAGER;
use crate::metrics::Metrics;
use crate::spec::DesiredState;

/// Backoff of repairs of one object that is changed again each time.
const REPAIRS: BackoffPolicy = BackoffPolicy {
    free_attempts: 3,
    initial_delay: Duration::from_secs(5),
    max_delay: Duration::from_mins(1),
    reset_after: Duration::from_mins(5),
};

/// Writes to the API server, and the caches they are compared with.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    recorder: Recorder,
    fence: Fence,
    metrics: Metrics,
    pub(crate) stores: Stores,
    pub(crate) applied_records: Arc<AppliedRecords>,
    repairs: Arc<Backoff>,
    pub(crate) contents: Arc<ContentCache>,
}

/// Result of [`Cluster::put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object matches; it was written if necessary.
    Done(Option<Repair>),
    /// The object is changed repeatedly outside the operator; it is written after this delay.
    Delayed(Duration),
}

/// How a child is compared with the live object.
#[derive(Clone, Copy, Debug)]
pub enum Comparison {
    /// All fields that the operator sets, and no additions to reserved fields.
    ManagedFields,
    /// The same, and the spec has no other fields: an additional rule would admit other clients.
    Exact,
    /// Metadata only: the rest is immutable, and the content of `ConfigMap`s is not cached.
    Metadata,
}

impl Cluster {
    /// Writes through `client` while `fence` is open, if an object differs from `stores`.
    pub fn new(client: Client, fence: Fence, metrics: Metrics, stores: Stores) -> Self {
        let repairs = Arc::new(Backoff::new(REPAIRS));
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            recorder,
            fence,
            metrics,
            stores,
            applied_records: Arc::default(),
            repairs,
            contents: Arc::default(),
        }
    }

    /// Removes records of deleted models.
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

    /// Reads a `ConfigMap` of a user.
    pub async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, CallError> {
        let api: Api<ConfigMap> = self.api(namespace);
        read(CallTarget { verb: "read", kind: "ConfigMap", namespace, name }, api.get_opt(name)).await
    }

    /// Writes a status if it has changed.
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
            // If the model was deleted and created again, the uid makes the API server reject this status.
            "metadata": {"name": model.name_any(), "uid": model.metadata.uid},
            "status": status,
        });
        self.patch_status(&model.metadata, &manager(), &Patch::Apply(&patch)).await
    }

    /// Replaces the conditions of a model of which only the metadata can be read. The rest of the status stays.
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
        // Only metadata of the response is read: this operator may be unable to decode the model.
        let api: Api<PartialObjectMeta<PredictorModel>> = self.api(namespace);
        let target = CallTarget { verb: "update status of", kind: "PredictorModel", namespace, name };
        write(&self.fence, target, api.patch_status(name, parameters, patch)).await?;
        self.metrics.count_write("PredictorModel");
        Ok(())
    }

    /// Publishes an Event about a model.
    pub async fn publish(&self, model: &PredictorModel, event: &Event) -> Result<(), CallError> {
        self.publish_about(model.object_ref(&()), event).await
    }

    /// Publishes an Event about the object `model`.
    pub async fn publish_about(&self, model: ObjectReference, event: &Event) -> Result<(), CallError> {
        // The recorder recognises a repeated Event by its object, whose version changes with each status.
        let model = ObjectReference { resource_version: None, ..model };
        let namespace = model.namespace.as_deref().unwrap_or_default();
        let name = model.name.as_deref().unwrap_or_default();
        let target = CallTarget { verb: "create", kind: "Event", namespace, name };
        write(&self.fence, target, self.recorder.publish(event, &model)).await?;
        self.metrics.count_write("Event");
        Ok(())
    }

    /// Maintains the discovery Service of a namespace while it has models, and deletes it after the last. Returns
    /// when to check again.
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
                    "Service predictors does not belong to the operator, so gateways cannot list the models of this namespace; delete the Service"
                );
                return Ok(None);
            }
        }
        self.patch::<Service>(namespace, CATALOGUE_SERVICE, &manifest).await.map(|_| None)
    }

    /// Fails if the name of a child is taken. Cached objects were found by the uid of the model, but may have another
    /// controller by now; the API server is asked about others.
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
        let target = CallTarget { verb: "get metadata of", kind: &K::kind(&()), namespace, name };
        Ok(read(target, api.get_metadata_opt(name)).await?.map(|live| live.metadata))
    }

    /// Writes a child if it differs. Its ownership was checked before.
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
        let child_ref = ChildRef { kind: &kind, name: &name };
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
                self.applied_records.record_applied(&desired.uid, child_ref, &manifest, meta);
                return Ok(PutOutcome::Done(None));
            }
            if has_labels && self.applied_records.is_unchanged(&desired.uid, child_ref, &manifest, meta) {
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
        let write = ObservedWrite { before: meta, after: &written };
        let change = self.applied_records.external_change(&desired.uid, child_ref, &manifest, write);
        // The operator never adds these fields itself.
        let is_changed = meta.is_some_and(|meta| meta.resource_version != written.resource_version);
        let change = change.or((is_added_to && is_changed).then_some(ExternalChange::Changed));
        self.applied_records.record_applied(&desired.uid, child_ref, &manifest, &written);
        if change.is_some() {
            let pause = self.repairs.record_failure(&key);
            if !pause.is_zero() {
                tracing::warn!(namespace = desired.namespace, %kind, name, ?pause, "an object is repeatedly changed outside the operator; its next repair is delayed");
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

    /// Removes fields that others added to an object, unless it has changed since it was observed.
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
            // kube only has this kind of patch with an additional crate.
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json-patch+json"));
            self.client.request::<PartialObjectMeta<K>>(request).await
        };
        let target = CallTarget { verb: "remove added fields from", kind: &K::kind(&()), namespace, name };
        let patched = write(&self.fence, target, removing).await?;
        self.metrics.count_write(&K::kind(&()));
        Ok(patched.metadata)
    }

    /// Deletes a child, if it exists and belongs to the model.
    pub async fn remove<K>(&self, desired: &DesiredState, name: &str) -> Result<(), ApplyError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        self.applied_records.forget_child(&desired.uid, ChildRef { kind: &K::kind(&()), name });
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

/// The object as JSON. Serialisation cannot fail: all map keys are strings.
pub(crate) fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
