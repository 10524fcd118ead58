//! Watches: they fill the stores and enqueue the models to reconcile.
//!
//! `ConfigMap`s of users are watched by metadata, in small pages, and are not stored.

use std::collections::HashSet;
use std::fmt::Debug;

use canopy_contract::names::CATALOGUE_SERVICE;
use canopy_resource::model::PredictorModel;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::api::scope::Scope;
use crate::caches::stores::{Stores, Writers};
use crate::caches::trim::{compact_data, trim_pod_spec, trim_slice};
use crate::caches::undecodable::UndecodableModel;
use crate::labels::{MANAGED_BY, MANAGER, MODEL_UID};
use crate::metrics::{Metrics, ModelCounts};
use crate::spec_resolver::SpecResolver;
use crate::status::conditions;

/// Capacity of each queue.
const QUEUE_CAPACITY: usize = 1024;
/// Page size for `ConfigMap`s of users. An annotation may contain all data, so that a page of 500 could be as large as
/// 500 `ConfigMap`s.
const UNMANAGED_PAGE_SIZE: u32 = 20;
/// Page size for objects of the operator. The snapshot of a model with a thousand named features has 200 KB.
const MANAGED_PAGE_SIZE: u32 = 100;

/// A reference to a model.
pub type ModelRef = ObjectRef<PredictorModel>;

/// The queues that watches fill.
#[derive(Debug)]
pub struct Queues {
    /// Models to reconcile.
    pub models: mpsc::Receiver<ModelRef>,
    /// Namespaces whose discovery Service may have to change.
    pub namespaces: mpsc::Receiver<String>,
    /// Models that cannot be decoded.
    pub undecodable: mpsc::Receiver<UndecodableModel>,
    /// The tasks of the watches, by name. They run until the process ends.
    pub tasks: JoinSet<&'static str>,
}

/// Fills the queues.
#[derive(Clone)]
struct Enqueuer {
    stores: Stores,
    spec_resolver: SpecResolver,
    models: mpsc::Sender<ModelRef>,
    namespaces: mpsc::Sender<String>,
    undecodable: mpsc::Sender<UndecodableModel>,
}

/// Starts all watches of a scope.
pub fn start(scope: &Scope, writers: Writers, spec_resolver: SpecResolver, metrics: Metrics) -> Queues {
    let (models, model_queue) = mpsc::channel(QUEUE_CAPACITY);
    let (namespaces, namespace_queue) = mpsc::channel(QUEUE_CAPACITY);
    let (undecodable, undecodable_queue) = mpsc::channel(QUEUE_CAPACITY);
    let enqueuer = Enqueuer { stores: writers.stores(), spec_resolver, models, namespaces, undecodable };
    let Writers {
        models,
        deployments,
        controller_revisions,
        config_maps,
        services,
        slices,
        disruption_budgets,
        network_policies,
        pods,
        undecodable: _,
    } = writers;

    let mut tasks = JoinSet::new();
    // A model that cannot be decoded must not hide others.
    let all_models = watch(scope.api::<DeserializeGuard<PredictorModel>>(), Config::default());
    spawn(&mut tasks, "models", reflect_models(all_models, models, enqueuer.clone(), metrics));
    spawn(
        &mut tasks,
        "Deployments",
        reflect(watch_managed::<Deployment>(scope), deployments, enqueuer.clone(), |_| {}),
    );
    spawn(
        &mut tasks,
        "ControllerRevisions",
        reflect(watch_managed(scope), controller_revisions, enqueuer.clone(), compact_data),
    );
    spawn(&mut tasks, "ConfigMaps", reflect(watch_managed(scope), config_maps, enqueuer.clone(), |_| {}));
    spawn(
        &mut tasks,
        "Services",
        reflect(watch_managed::<Service>(scope), services, enqueuer.clone(), |_| {}),
    );
    spawn(&mut tasks, "EndpointSlices", reflect(watch_managed(scope), slices, enqueuer.clone(), trim_slice));
    spawn(
        &mut tasks,
        "PodDisruptionBudgets",
        reflect(watch_managed(scope), disruption_budgets, enqueuer.clone(), |_| {}),
    );
    spawn(
        &mut tasks,
        "NetworkPolicies",
        reflect(watch_managed(scope), network_policies, enqueuer.clone(), |_| {}),
    );
    spawn(&mut tasks, "pods", reflect(watch_managed(scope), pods, enqueuer.clone(), trim_pod_spec));
    let unmanaged = Config::default().labels(&format!("!{MODEL_UID}")).page_size(UNMANAGED_PAGE_SIZE);
    let unmanaged = watch(scope.api(), unmanaged);
    spawn(&mut tasks, "unmanaged ConfigMaps", watch_unmanaged(unmanaged, enqueuer));
    Queues { models: model_queue, namespaces: namespace_queue, undecodable: undecodable_queue, tasks }
}

fn spawn(
    tasks: &mut JoinSet<&'static str>,
    what: &'static str,
    watching: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        watching.await;
        what
    });
}

fn watch_managed<K>(scope: &Scope) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let config = Config::default().labels(&format!("{MANAGED_BY}={MANAGER}")).page_size(MANAGED_PAGE_SIZE);
    watch(scope.api(), config)
}

async fn reflect_models(
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<PredictorModel>>>> + Send + 'static,
    mut writer: Writer<PredictorModel>,
    enqueuer: Enqueuer,
    metrics: Metrics,
) {
    let mut events = std::pin::pin!(with_retries(events));
    // Uids of models in the current list that cannot be decoded.
    let mut listed = HashSet::new();
    let mut counted = ModelCounts::default();
    while let Some(event) = events.next().await {
        let Some(event) = enqueuer.decode(event, &mut listed).await else {
            counted = count_models(&enqueuer.stores, &metrics, counted);
            continue;
        };
        let event = event.modify(|model| model.managed_fields_mut().clear());
        writer.apply_watcher_event(&event);
        counted = count_models(&enqueuer.stores, &metrics, counted);
        match event {
            Event::Apply(model) | Event::Delete(model) => {
                if enqueuer.stores.models.get(&ObjectRef::from_obj(&model)).is_none() {
                    enqueuer.spec_resolver.forget(&model);
                }
                enqueuer.enqueue_namespace(&model).await;
                enqueuer.enqueue(ObjectRef::from_obj(&model)).await;
            }
            Event::InitDone => {
                let uids: HashSet<_> =
                    enqueuer.stores.models.state().iter().filter_map(|m| m.uid()).collect();
                enqueuer.spec_resolver.retain(|uid| uids.contains(uid));
                for model in enqueuer.stores.models.state() {
                    enqueuer.enqueue_namespace(&*model).await;
                }
                enqueuer.enqueue_all().await;
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

async fn reflect<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    mut writer: Writer<K>,
    enqueuer: Enqueuer,
    trim: fn(&mut K),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(with_retries(events));
    while let Some(event) = events.next().await {
        let event = event.modify(|object| {
            object.managed_fields_mut().clear();
            trim(object);
        });
        writer.apply_watcher_event(&event);
        match event {
            Event::Apply(child) | Event::Delete(child) => {
                if child.name_any() == CATALOGUE_SERVICE {
                    enqueuer.enqueue_namespace(&child).await;
                }
                let model = child.labels().get(MODEL_UID).and_then(|uid| enqueuer.stores.model(uid));
                if let Some(model) = model.filter(|model| model.namespace() == child.namespace()) {
                    enqueuer.enqueue(ObjectRef::from_obj(&*model)).await;
                }
            }
            // Deletions during an interruption of the watch cause no event.
            Event::InitDone => enqueuer.enqueue_all().await,
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

async fn watch_unmanaged(
    events: impl Stream<Item = watcher::Result<Event<PartialObjectMeta<ConfigMap>>>> + Send + 'static,
    enqueuer: Enqueuer,
) {
    let mut events = std::pin::pin!(with_retries(events));
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(config_map) => {
                enqueuer.spec_resolver.config_map_seen(&config_map.metadata);
                enqueuer.enqueue_users_of(&config_map).await;
            }
            Event::Delete(config_map) => {
                enqueuer.spec_resolver.config_map_deleted(&config_map.metadata);
                enqueuer.enqueue_users_of(&config_map).await;
            }
            Event::Init => enqueuer.spec_resolver.list_started(),
            Event::InitApply(config_map) => enqueuer.spec_resolver.config_map_seen(&config_map.metadata),
            Event::InitDone => {
                enqueuer.spec_resolver.list_finished();
                enqueuer.enqueue_all().await;
            }
        }
    }
}

/// The events of a watch, which is retried with backoff after errors.
fn with_retries<K: Clone + Send + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send {
    events.default_backoff().filter_map(|event| async {
        event.inspect_err(|error| tracing::warn!(%error, "watch interrupted; retrying")).ok()
    })
}

fn count_models(stores: &Stores, metrics: &Metrics, before: ModelCounts) -> ModelCounts {
    let undecodable = i64::try_from(stores.undecodable.len()).unwrap_or(i64::MAX);
    let mut now = ModelCounts { not_ready: undecodable, ..ModelCounts::default() };
    for model in stores.models.state() {
        match model.status.as_ref().and_then(conditions::ready_of) {
            Some(ready) if ready.status == "True" => now.ready += 1,
            Some(_) => now.not_ready += 1,
            None => now.unknown += 1,
        }
    }
    metrics.replace_models(before, now);
    now
}

impl Enqueuer {
    /// The event, if its model can be decoded. Otherwise the model is enqueued as undecodable, and its last decoded
    /// version stays in the store until it is deleted.
    async fn decode(
        &self,
        event: Event<DeserializeGuard<PredictorModel>>,
        listed: &mut HashSet<Option<String>>,
    ) -> Option<Event<PredictorModel>> {
        let undecodable = &self.stores.undecodable;
        let (model, again): (_, fn(PredictorModel) -> Event<PredictorModel>) = match event {
            Event::Init => {
                listed.clear();
                return Some(Event::Init);
            }
            Event::InitDone => {
                undecodable.retain(|model| listed.contains(&model.uid));
                return Some(Event::InitDone);
            }
            Event::InitApply(model) => (model, Event::InitApply),
            Event::Apply(model) => (model, Event::Apply),
            Event::Delete(model) => {
                undecodable.remove(model.meta());
                let gone = ObjectRef::from_obj(&model).erase();
                let stored = ObjectRef::new(&gone.name).within(gone.namespace.as_deref().unwrap_or_default());
                let stored = self.stores.models.get(&stored).map(|stored| (*stored).clone());
                self.enqueue_namespace(&model).await;
                return model.0.ok().or(stored).map(Event::Delete);
            }
        };
        match model.0 {
            Ok(model) => {
                undecodable.remove(&model.metadata);
                Some(again(model))
            }
            Err(invalid) => {
                listed.insert(invalid.metadata.uid.clone());
                let namespace = invalid.metadata.namespace.clone();
                if let Some(undecodable_model) = undecodable.insert(invalid) {
                    drop(self.undecodable.send(undecodable_model).await);
                }
                if let Some(namespace) = namespace {
                    drop(self.namespaces.send(namespace).await);
                }
                None
            }
        }
    }

    async fn enqueue(&self, model: ModelRef) {
        // The receiver is only dropped on shutdown.
        drop(self.models.send(model).await);
    }

    async fn enqueue_users_of(&self, config_map: &PartialObjectMeta<ConfigMap>) {
        for model in self.models_using(config_map) {
            self.enqueue(model).await;
        }
    }

    async fn enqueue_all(&self) {
        for model in self.stores.models.state() {
            self.enqueue(ObjectRef::from_obj(&*model)).await;
        }
        let is_discovery_service = |service: &Service| service.name_any() == CATALOGUE_SERVICE;
        for catalogue in self.stores.services.state_filter(is_discovery_service) {
            self.enqueue_namespace(&*catalogue).await;
        }
    }

    async fn enqueue_namespace<K: Resource>(&self, object: &K) {
        if let Some(namespace) = object.namespace() {
            drop(self.namespaces.send(namespace).await);
        }
    }

    fn models_using(&self, config_map: &PartialObjectMeta<ConfigMap>) -> Vec<ModelRef> {
        let (name, namespace) = (config_map.name_any(), config_map.namespace());
        let takes = |model: &PredictorModel| {
            let mut sources = model.spec.sources().filter_map(|(_, source)| source.config_map.as_ref());
            model.namespace() == namespace && sources.any(|source| source.name == name)
        };
        self.stores.models.state_filter(takes).iter().map(|model| ObjectRef::from_obj(&**model)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use canopy_runtime::metrics::Registry;
    use futures::stream::iter;
    use serde_json::{Value, json};

    fn model(name: &str, metric: &str) -> DeserializeGuard<PredictorModel> {
        let model: Value = json!({
            "apiVersion": "canopy.rs/v1alpha1", "kind": "PredictorModel",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
            "spec": {"version": "1.0", "train": {
                "data": {"synthetic": {}}, "algorithm": {"randomForest": {}},
                "gate": {"metric": metric, "min": "0.5"},
            }},
        });
        serde_json::from_value(model).unwrap()
    }

    /// The names in the store and of undecodable models after these events.
    async fn after(
        writers: Writers,
        events: Vec<Event<DeserializeGuard<PredictorModel>>>,
    ) -> (Stores, Vec<String>, Vec<String>) {
        let (models, _models) = mpsc::channel(QUEUE_CAPACITY);
        let (namespaces, _namespaces) = mpsc::channel(QUEUE_CAPACITY);
        let (undecodable, mut undecodable_queue) = mpsc::channel(QUEUE_CAPACITY);
        let enqueuer = Enqueuer {
            stores: writers.stores(),
            spec_resolver: SpecResolver::default(),
            models,
            namespaces,
            undecodable,
        };
        let (stores, metrics) = (writers.stores(), Metrics::register(&Registry::new()).unwrap());
        Box::pin(reflect_models(iter(events.into_iter().map(Ok)), writers.models, enqueuer, metrics)).await;
        let mut names: Vec<_> = stores.models.state().iter().map(|model| model.name_any()).collect();
        names.sort_unstable();
        let mut unread = Vec::new();
        while let Ok(undecodable_model) = undecodable_queue.try_recv() {
            unread.push(undecodable_model.metadata.name.unwrap_or_default());
        }
        (stores, names, unread)
    }

    #[tokio::test]
    async fn an_undecodable_model_does_not_hide_others() {
        let (good, bad) = (model("good", "Accuracy"), model("bad", "F1"));
        assert!(good.0.is_ok() && bad.0.is_err());
        let listed = vec![
            Event::Init,
            Event::InitApply(bad.clone()),
            Event::InitApply(good.clone()),
            Event::InitDone,
            Event::Apply(bad.clone()),
            Event::Apply(model("later", "Accuracy")),
        ];
        let (stores, names, undecodable) = Box::pin(after(Writers::default(), listed)).await;
        assert_eq!(names, ["good", "later"]);
        assert_eq!(undecodable, ["bad"], "it is reported once");
        assert!(stores.has_models("shop"));
    }

    #[tokio::test]
    async fn the_last_decoded_version_of_a_model_stays_until_it_is_deleted() {
        let listed = |last: Option<Event<_>>| {
            let first = [Event::Init, Event::InitApply(model("iris", "Accuracy")), Event::InitDone];
            first.into_iter().chain([Event::Apply(model("iris", "F1"))]).chain(last).collect::<Vec<_>>()
        };
        let (stores, names, undecodable) = Box::pin(after(Writers::default(), listed(None))).await;
        assert_eq!(
            (names, undecodable, stores.undecodable.len()),
            (vec!["iris".to_owned()], vec!["iris".to_owned()], 1)
        );
        let deleted = Event::Delete(model("iris", "F1"));
        let (stores, names, _) = Box::pin(after(Writers::default(), listed(Some(deleted)))).await;
        assert_eq!((names, stores.undecodable.len()), (vec![], 0));
        assert!(!stores.has_models("shop"));
        let mended = Event::Apply(model("iris", "Accuracy"));
        let (stores, names, _) = Box::pin(after(Writers::default(), listed(Some(mended)))).await;
        assert_eq!((names, stores.undecodable.len()), (vec!["iris".to_owned()], 0));
    }
}
