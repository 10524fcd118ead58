//! Every call that the operator makes for a model: the one file that writes.
//!
//! Comes in: children, a status, an announcement. Goes out: what came of it. Never: a write that would change
//! nothing, and never one over an object that belongs to somebody else.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use canopy_contract::names::CATALOGUE_SERVICE;
use canopy_resource::model::PredictorModel;
use canopy_resource::status::PredictorModelStatus;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::announcement::{self, Announcement};
use crate::contents::Contents;
use crate::desired::{Children, RevisionChildren, Services, service};
use crate::labels::MANAGER;
use crate::marks::{Marks, Repair};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::reason::{Reason, Trouble};
use crate::stores::{Child, Stores};
use crate::{claim, compare, spans};

/// The cause that the API server gives where it refuses to make an object in a namespace that is being deleted.
const NAMESPACE_GOES: &str = "NamespaceTerminating";

/// The API server, and what the watches know of it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    metrics: Metrics,
    pub(crate) stores: Stores,
    pub(crate) marks: Arc<Marks>,
    pub(crate) contents: Arc<Contents>,
}

/// Why children could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody has to do something first: it is said in the status.
    #[error("{}", .0.message)]
    Hindered(Trouble),
    /// The namespace is being deleted, and the model with it: nothing is made in it any more.
    #[error("the namespace is being deleted")]
    NamespaceGoes,
    /// The API server could not be asked; it is tried again.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {kind} {name}: {source}")]
pub struct CallError {
    verb: &'static str,
    kind: String,
    name: String,
    source: Box<kube::Error>,
}

impl Cluster {
    /// Writes through `client` what differs from `stores`.
    pub fn new(client: Client, metrics: Metrics, stores: Stores) -> Self {
        Self { client, metrics, stores, marks: Arc::default(), contents: Arc::default() }
    }

    /// Makes the children what they should be, each before what relies on it; which of them somebody else had changed.
    pub async fn apply(&self, plan: &Plan, children: Children) -> Result<Vec<Repair>, ApplyError> {
        let Children { revisions, services, budget, goes } = children;
        // A name that is taken is found before anything is made under the others.
        for RevisionChildren { revision: _, snapshot, data, config, deployment } in &revisions {
            self.claim(plan, Some(snapshot)).await?;
            self.claim(plan, data.as_ref().and_then(|data| data.config_map.as_ref())).await?;
            self.claim(plan, Some(config)).await?;
            self.claim(plan, Some(deployment)).await?;
        }
        if let Some(Services { endpoints, stable }) = &services {
            self.claim(plan, Some(endpoints)).await?;
            self.claim(plan, Some(stable)).await?;
        }
        self.claim(plan, budget.as_ref()).await?;

        let mut repairs = Vec::new();
        for RevisionChildren { revision: _, snapshot, data, config, deployment } in revisions {
            repairs.extend(self.put(plan, snapshot, Compared::Metadata).await?);
            for config_map in data.and_then(|data| data.config_map).into_iter().chain([config]) {
                repairs.extend(self.put(plan, config_map, Compared::Metadata).await?);
            }
            repairs.extend(self.put(plan, deployment, Compared::Everything).await?);
        }
        if let Some(Services { endpoints, stable }) = services {
            repairs.extend(self.put(plan, endpoints, Compared::Everything).await?);
            repairs.extend(self.put(plan, stable, Compared::Everything).await?);
        }
        match budget {
            Some(budget) => repairs.extend(self.put(plan, budget, Compared::Everything).await?),
            None => self.remove::<PodDisruptionBudget>(plan, plan.name.as_str()).await?,
        }
        for revision in goes {
            self.remove::<Deployment>(plan, &plan.name.revision_object(&revision)).await?;
            self.remove::<ConfigMap>(plan, &plan.name.revision_object(&revision)).await?;
            self.remove::<ConfigMap>(plan, &plan.name.data_object(&revision)).await?;
            self.remove::<ControllerRevision>(plan, &plan.name.revision_object(&revision)).await?;
        }
        Ok(repairs)
    }

    /// Forgets what was known of models that are gone.
    fn forget(&self) {
        if self.marks.len() > self.stores.models.len() {
            let there: HashSet<_> =
                self.stores.models.state().iter().filter_map(|model| model.uid()).collect();
            self.marks.keep(|uid| there.contains(uid));
        }
        if self.contents.len() > self.stores.config_maps.len() {
            let is_there =
                |namespace: &str, name: &str| self.stores.child::<ConfigMap>(namespace, name).is_some();
            self.contents.keep(is_there);
        }
    }

    /// The `ConfigMap` of a user.
    pub async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, CallError> {
        let api: Api<ConfigMap> = self.api(namespace);
        api.get_opt(name).await.map_err(|error| failed::<ConfigMap>("read", namespace, name, error))
    }

    /// Writes a status, if it says anything new.
    pub async fn report(
        &self,
        model: &PredictorModel,
        status: &PredictorModelStatus,
    ) -> Result<(), CallError> {
        if model.status.as_ref() == Some(status) {
            return Ok(());
        }
        let (namespace, name) = (model.namespace().unwrap_or_default(), model.name_any());
        let patch = json!({
            "apiVersion": PredictorModel::api_version(&()),
            "kind": PredictorModel::kind(&()),
            // Where the model was deleted and made again meanwhile, this status is not the new one's.
            "metadata": {"name": name, "uid": model.metadata.uid},
            "status": status,
        });
        let api: Api<PredictorModel> = self.api(&namespace);
        let (manager, patch) = (manager(), Patch::Apply(&patch));
        let patching = api.patch_status(&name, &manager, &patch);
        let patched = spans::call("report on", "PredictorModel", (&namespace, &name), patching).await;
        patched.map_err(|error| failed::<PredictorModel>("report on", &namespace, &name, error))?;
        self.metrics.wrote("PredictorModel");
        Ok(())
    }

    /// Publishes an Event about a model.
    pub async fn publish(&self, model: &PredictorModel, news: &Announcement) -> Result<(), CallError> {
        let namespace = model.namespace().unwrap_or_default();
        let event = announcement::event(model, news, Timestamp::now());
        let (api, parameters) = (self.api::<Event>(&namespace), PostParams::default());
        let creating = api.create(&parameters, &event);
        let created = spans::call("create", "Event", (&namespace, &event.name_any()), creating).await;
        created.map_err(|error| failed::<Event>("create", &namespace, &event.name_any(), error))?;
        self.metrics.wrote("Event");
        Ok(())
    }

    /// Keeps the Service that lists all models of a namespace while it has models, and removes it after the last.
    pub async fn keep_catalogue(&self, namespace: &str) -> Result<(), CallError> {
        self.forget();
        let api: Api<Service> = self.api(namespace);
        let there = self.stores.child::<Service>(namespace, CATALOGUE_SERVICE);
        if !self.stores.has_models(namespace) {
            if there.is_some_and(|there| claim::is_own_catalogue(&there.metadata)) {
                return self.delete(&api, namespace, CATALOGUE_SERVICE, DeleteParams::background()).await;
            }
            return Ok(());
        }
        let wanted = service::catalogue();
        let (wanted, found) = (value(&wanted), there.map(|there| value(&*there)));
        match found {
            Some(found) if compare::holds(&wanted, &found) => return Ok(()),
            Some(_) => {}
            None => {
                let taken = api.get_metadata_opt(CATALOGUE_SERVICE).await;
                let taken =
                    taken.map_err(|e| failed::<Service>("look for", namespace, CATALOGUE_SERVICE, e))?;
                if taken.is_some_and(|taken| !claim::is_own_catalogue(&taken.metadata)) {
                    tracing::warn!(
                        namespace,
                        "Service predictors was not made by the operator: the gateway cannot list the models of this namespace; delete it"
                    );
                    return Ok(());
                }
            }
        }
        match self.patch::<Service>(namespace, CATALOGUE_SERVICE, &wanted).await {
            Err(error) if error.is_as_namespace_goes() => Ok(()),
            ended => ended.map(drop),
        }
    }

    /// Fails where the child's name is taken. What is in the store was found by the model's uid, but may have got
    /// another controller; what is not may be a stranger's.
    async fn claim<K>(&self, plan: &Plan, child: Option<&K>) -> Result<(), ApplyError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let Some(name) = child.map(kube::ResourceExt::name_any) else { return Ok(()) };
        let metadata = if let Some(seen) = self.stores.child::<K>(&plan.namespace, &name) {
            Some(seen.meta().clone())
        } else {
            let found = self.api::<K>(&plan.namespace).get_metadata_opt(&name).await;
            let found = found.map_err(|e| failed::<K>("look for", &plan.namespace, &name, e))?;
            found.map(|found| found.metadata)
        };
        let Some(metadata) = metadata else { return Ok(()) };
        claim::check(&K::kind(&()), &metadata, &plan.name, &plan.uid).map_err(ApplyError::Hindered)
    }

    async fn put<K>(&self, plan: &Plan, child: K, compared: Compared) -> Result<Option<Repair>, ApplyError>
    where
        K: Child + Serialize + DeserializeOwned + Debug,
    {
        let (kind, name) = (K::kind(&()), child.name_any());
        let of = (&*kind, name.as_str());
        let (wanted, seen) = (value(&child), self.stores.child::<K>(&plan.namespace, &name));
        let is_same = seen.as_ref().is_some_and(|seen| match compared {
            Compared::Everything => compare::holds(&wanted, &value(&**seen)),
            Compared::Metadata => {
                compare::holds(&json!({"metadata": wanted["metadata"]}), &json!({"metadata": seen.meta()}))
            }
        });
        if let Some(seen) = seen.as_ref().filter(|_| is_same) {
            self.marks.is_so(&plan.uid, of, &wanted, seen.meta());
            return Ok(None);
        }
        let written = self.patch::<K>(&plan.namespace, &name, &wanted).await;
        let written = written.map_err(CallError::of_write)?;
        let seen = seen.as_ref().map(|seen| seen.meta());
        let harm = self.marks.harm(&plan.uid, of, &wanted, (seen, &written));
        self.marks.is_so(&plan.uid, of, &wanted, &written);
        Ok(harm.map(|harm| Repair { kind: kind.into_owned(), name, harm }))
    }

    pub(crate) async fn patch<K>(
        &self,
        namespace: &str,
        name: &str,
        wanted: &Value,
    ) -> Result<ObjectMeta, CallError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        let (api, manager, patch) = (self.api::<K>(namespace), manager(), Patch::Apply(wanted));
        let patching = api.patch_metadata(name, &manager, &patch);
        let patched = spans::call("apply", &K::kind(&()), (namespace, name), patching).await;
        let patched = patched.map_err(|error| failed::<K>("apply", namespace, name, error))?;
        self.metrics.wrote(&K::kind(&()));
        Ok(patched.metadata)
    }

    async fn remove<K>(&self, plan: &Plan, name: &str) -> Result<(), ApplyError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        self.marks.is_no_more(&plan.uid, (&K::kind(&()), name));
        let Some(seen) = self.stores.child::<K>(&plan.namespace, name) else { return Ok(()) };
        let is_own = claim::check(&K::kind(&()), seen.meta(), &plan.name, &plan.uid).is_ok();
        if !is_own || seen.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let same = Preconditions { uid: seen.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        Ok(self.delete(&self.api::<K>(&plan.namespace), &plan.namespace, name, params).await?)
    }

    pub(crate) async fn delete<K>(
        &self,
        api: &Api<K>,
        namespace: &str,
        name: &str,
        params: DeleteParams,
    ) -> Result<(), CallError>
    where
        K: Child + DeserializeOwned + Debug,
    {
        match spans::call("delete", &K::kind(&()), (namespace, name), api.delete(name, &params)).await {
            Ok(_) => self.metrics.wrote(&K::kind(&())),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(failed::<K>("delete", namespace, name, error)),
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

/// What of an object may differ at all.
#[derive(Clone, Copy, Debug)]
enum Compared {
    Everything,
    /// The rest is immutable, and what is in a `ConfigMap` is not kept in memory.
    Metadata,
}

impl CallError {
    /// What a failed write means for the model: the API server may have something against an object that is not the
    /// operator's or the network's fault.
    pub(crate) fn of_write(self) -> ApplyError {
        let kube::Error::Api(status) = &*self.source else { return ApplyError::Call(self) };
        if self.is_as_namespace_goes() {
            return ApplyError::NamespaceGoes;
        }
        let passes = status.is_conflict() || status.is_not_found() || status.code == 429;
        if passes || !(400..500).contains(&status.code) {
            return ApplyError::Call(self);
        }
        let message = format!("the API server refused {} {}: {}", self.kind, self.name, status.message);
        ApplyError::Hindered(Trouble::new(Reason::ApplyRefused, message))
    }

    fn is_as_namespace_goes(&self) -> bool {
        let kube::Error::Api(status) = &*self.source else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == NAMESPACE_GOES)
    }
}

pub(crate) fn failed<K: kube::Resource<DynamicType = ()>>(
    verb: &'static str,
    namespace: &str,
    name: &str,
    error: kube::Error,
) -> CallError {
    let (kind, name) = (K::kind(&()).into_owned(), format!("{namespace}/{name}"));
    CallError { verb, kind, name, source: Box::new(error) }
}

fn manager() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// The object as JSON. The types that come in have only maps with text as keys, so it always is one.
pub(crate) fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
