//! Watches: what happens in the cluster fills the stores and says which models are worth a pass.
//!
//! Comes in: a client. Goes out: models to look at, and namespaces whose list of models may have changed. Never: a
//! store of what is not the operator's own; the `ConfigMap`s of users pass by as metadata, a few at a time.

use std::collections::HashSet;
use std::fmt::Debug;

use canopy_contract::names::CATALOGUE_SERVICE;
use canopy_resource::model::PredictorModel;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Container, ObjectReference, Pod, PodSpec, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::caches::stores::{Stores, Writers};
use crate::caches::undecodable::Faulty;
use crate::data_sources::Sources;
use crate::labels::{MANAGED_BY, MANAGER, MODEL_UID};
use crate::metrics::Metrics;
use crate::state;
use crate::status::conditions;

/// How many events may wait for a pass.
const WAITING_MAX: usize = 1024;
/// Metadata may carry a copy of all data, so that a page of 500 would be as large as the data of 500.
const STRANGERS_PER_PAGE: u32 = 20;
/// A snapshot of a model with a thousand named features has 200 KB.
const OWN_PER_PAGE: u32 = 100;

/// A model to look at.
pub type ModelRef = ObjectRef<PredictorModel>;

/// What the watches tell.
#[derive(Debug)]
pub struct News {
    /// Models that are worth a pass.
    pub models: mpsc::Receiver<ModelRef>,
    /// Namespaces whose list of models may have changed.
    pub namespaces: mpsc::Receiver<String>,
    /// Models that cannot be decoded.
    pub unreadable: mpsc::Receiver<Faulty>,
    /// The watches themselves, each with what it watches: none of them ends before the process.
    pub tasks: JoinSet<&'static str>,
}

/// Where news goes.
#[derive(Clone)]
struct Desk {
    stores: Stores,
    sources: Sources,
    models: mpsc::Sender<ModelRef>,
    namespaces: mpsc::Sender<String>,
    unreadable: mpsc::Sender<Faulty>,
}

/// Starts all watches; they end with the process.
pub fn start(client: &Client, writers: Writers, sources: Sources, metrics: Metrics) -> News {
    let (models, model_news) = mpsc::channel(WAITING_MAX);
    let (namespaces, namespace_news) = mpsc::channel(WAITING_MAX);
    let (unreadable, unreadable_news) = mpsc::channel(WAITING_MAX);
    let desk = Desk { stores: writers.stores(), sources, models, namespaces, unreadable };
    let Writers {
        models,
        deployments,
        snapshots,
        config_maps,
        services,
        slices,
        budgets,
        policies,
        pods,
        unreadable: _,
    } = writers;

    let mut tasks = JoinSet::new();
    // One model that cannot be decoded must not hide the others.
    let all_models = watch(Api::<DeserializeGuard<PredictorModel>>::all(client.clone()), Config::default());
    spawn(&mut tasks, "models", follow_models(all_models, models, desk.clone(), metrics));
    spawn(&mut tasks, "Deployments", follow(own::<Deployment>(client), deployments, desk.clone(), |_| {}));
    spawn(&mut tasks, "ControllerRevisions", follow(own(client), snapshots, desk.clone(), pack));
    spawn(&mut tasks, "ConfigMaps", follow(own(client), config_maps, desk.clone(), |_| {}));
    spawn(&mut tasks, "Services", follow(own::<Service>(client), services, desk.clone(), |_| {}));
    spawn(&mut tasks, "EndpointSlices", follow(own(client), slices, desk.clone(), drop_addresses));
    spawn(&mut tasks, "PodDisruptionBudgets", follow(own(client), budgets, desk.clone(), |_| {}));
    spawn(&mut tasks, "NetworkPolicies", follow(own(client), policies, desk.clone(), |_| {}));
    spawn(&mut tasks, "pods", follow(own(client), pods, desk.clone(), drop_spec));
    let strangers = Config::default().labels(&format!("!{MODEL_UID}")).page_size(STRANGERS_PER_PAGE);
    let strangers = watch(Api::all(client.clone()), strangers);
    spawn(&mut tasks, "ConfigMaps of users", follow_strangers(strangers, desk));
    News { models: model_news, namespaces: namespace_news, unreadable: unreadable_news, tasks }
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

fn own<K>(client: &Client) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let own = Config::default().labels(&format!("{MANAGED_BY}={MANAGER}")).page_size(OWN_PER_PAGE);
    watch(Api::all(client.clone()), own)
}

async fn follow_models(
    events: impl Stream<Item = watcher::Result<Event<DeserializeGuard<PredictorModel>>>> + Send + 'static,
    mut writer: Writer<PredictorModel>,
    desk: Desk,
    metrics: Metrics,
) {
    let mut events = std::pin::pin!(told(events));
    // The uids of those that a list names and that cannot be decoded.
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        let Some(event) = desk.readable(event, &mut listed).await else {
            count(&desk.stores, &metrics);
            continue;
        };
        let event = event.modify(|model| model.managed_fields_mut().clear());
        writer.apply_watcher_event(&event);
        count(&desk.stores, &metrics);
        match event {
            Event::Apply(model) | Event::Delete(model) => {
                if desk.stores.models.get(&ObjectRef::from_obj(&model)).is_none() {
                    desk.sources.forget(&model);
                }
                desk.tell_namespace(&model).await;
                desk.tell(ObjectRef::from_obj(&model)).await;
            }
            Event::InitDone => {
                let uids: HashSet<_> = desk.stores.models.state().iter().filter_map(|m| m.uid()).collect();
                desk.sources.keep(|uid| uids.contains(uid));
                for model in desk.stores.models.state() {
                    desk.tell_namespace(&*model).await;
                }
                desk.tell_all().await;
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

async fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    mut writer: Writer<K>,
    desk: Desk,
    trim: fn(&mut K),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut events = std::pin::pin!(told(events));
    while let Some(event) = events.next().await {
        let event = event.modify(|object| {
            object.managed_fields_mut().clear();
            trim(object);
        });
        writer.apply_watcher_event(&event);
        match event {
            Event::Apply(child) | Event::Delete(child) => {
                if child.name_any() == CATALOGUE_SERVICE {
                    desk.tell_namespace(&child).await;
                }
                let model = child.labels().get(MODEL_UID).and_then(|uid| desk.stores.model(uid));
                if let Some(model) = model.filter(|model| model.namespace() == child.namespace()) {
                    desk.tell(ObjectRef::from_obj(&*model)).await;
                }
            }
            // What was deleted while nobody watched is told by no event.
            Event::InitDone => desk.tell_all().await,
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

async fn follow_strangers(
    events: impl Stream<Item = watcher::Result<Event<PartialObjectMeta<ConfigMap>>>> + Send + 'static,
    desk: Desk,
) {
    let mut events = std::pin::pin!(told(events));
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(stranger) => {
                desk.sources.is_there(&stranger.metadata);
                desk.tell_of(&stranger).await;
            }
            Event::Delete(stranger) => {
                desk.sources.is_gone(&stranger.metadata);
                desk.tell_of(&stranger).await;
            }
            Event::Init => desk.sources.list_begins(),
            Event::InitApply(stranger) => desk.sources.is_there(&stranger.metadata),
            Event::InitDone => {
                desk.sources.list_ends();
                desk.tell_all().await;
            }
        }
    }
}

/// The events; what goes wrong between them is told and tried again, ever more slowly.
fn told<K: Clone + Send + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send {
    events.default_backoff().filter_map(|event| async {
        event.inspect_err(|error| tracing::warn!(%error, "a watch was interrupted and goes on")).ok()
    })
}

fn count(stores: &Stores, metrics: &Metrics) {
    let models = stores.models.state();
    let ready = models.iter().map(|model| model.status.as_ref().and_then(conditions::ready_of));
    let (mut yes, mut no, mut unknown) = (0, 0, 0);
    for condition in ready {
        match condition.map(|condition| condition.status.as_str()) {
            Some("True") => yes += 1,
            Some(_) => no += 1,
            None => unknown += 1,
        }
    }
    metrics.models(yes, no + stores.unreadable.len(), unknown);
}

/// A tree of values takes several times the memory of its text.
fn pack(snapshot: &mut ControllerRevision) {
    let RawExtension(data) = &mut snapshot.data;
    *data = Value::String(data.to_string());
}

/// A pod's spec follows from its Deployment; which containers there are tells it from a pod that others made.
fn drop_spec(pod: &mut Pod) {
    let names = |containers: &[Container]| {
        let named =
            |container: &Container| Container { name: container.name.clone(), ..Container::default() };
        containers.iter().map(named).collect()
    };
    pod.spec = pod.spec.as_ref().map(|spec| PodSpec {
        init_containers: spec.init_containers.as_deref().map(names),
        containers: names(&spec.containers),
        ..PodSpec::default()
    });
}

/// Only which pods are ready endpoints is read.
fn drop_addresses(slice: &mut EndpointSlice) {
    let endpoints = slice.endpoints.get_or_insert_default();
    endpoints.retain(state::is_ready);
    for endpoint in endpoints {
        let pod = endpoint.target_ref.take().and_then(|pod| pod.name);
        let target_ref = Some(ObjectReference { name: pod, ..ObjectReference::default() });
        *endpoint = Endpoint { target_ref, ..Endpoint::default() };
    }
    slice.annotations_mut().clear();
    slice.ports = None;
}

impl Desk {
    /// The event, where its model can be decoded. One that cannot is told, and what was last read of it stays in the store
    /// until it is deleted.
    async fn readable(
        &self,
        event: Event<DeserializeGuard<PredictorModel>>,
        listed: &mut HashSet<Option<String>>,
    ) -> Option<Event<PredictorModel>> {
        let unreadable = &self.stores.unreadable;
        let (model, again): (_, fn(PredictorModel) -> Event<PredictorModel>) = match event {
            Event::Init => {
                listed.clear();
                return Some(Event::Init);
            }
            Event::InitDone => {
                unreadable.keep(|model| listed.contains(&model.uid));
                return Some(Event::InitDone);
            }
            Event::InitApply(model) => (model, Event::InitApply),
            Event::Apply(model) => (model, Event::Apply),
            Event::Delete(model) => {
                unreadable.remove(model.meta());
                let gone = ObjectRef::from_obj(&model).erase();
                let stored = ObjectRef::new(&gone.name).within(gone.namespace.as_deref().unwrap_or_default());
                let stored = self.stores.models.get(&stored).map(|stored| (*stored).clone());
                self.tell_namespace(&model).await;
                return model.0.ok().or(stored).map(Event::Delete);
            }
        };
        match model.0 {
            Ok(model) => {
                unreadable.remove(&model.metadata);
                Some(again(model))
            }
            Err(invalid) => {
                listed.insert(invalid.metadata.uid.clone());
                let namespace = invalid.metadata.namespace.clone();
                if let Some(faulty) = unreadable.insert(invalid) {
                    drop(self.unreadable.send(faulty).await);
                }
                if let Some(namespace) = namespace {
                    drop(self.namespaces.send(namespace).await);
                }
                None
            }
        }
    }

    async fn tell(&self, model: ModelRef) {
        // Who no longer listens is about to end.
        drop(self.models.send(model).await);
    }

    async fn tell_of(&self, stranger: &PartialObjectMeta<ConfigMap>) {
        for model in self.models_with_data_in(stranger) {
            self.tell(model).await;
        }
    }

    async fn tell_all(&self) {
        for model in self.stores.models.state() {
            self.tell(ObjectRef::from_obj(&*model)).await;
        }
        let is_catalogue = |service: &Service| service.name_any() == CATALOGUE_SERVICE;
        for catalogue in self.stores.services.state_filter(is_catalogue) {
            self.tell_namespace(&*catalogue).await;
        }
    }

    async fn tell_namespace<K: Resource>(&self, object: &K) {
        if let Some(namespace) = object.namespace() {
            drop(self.namespaces.send(namespace).await);
        }
    }

    fn models_with_data_in(&self, stranger: &PartialObjectMeta<ConfigMap>) -> Vec<ModelRef> {
        let (name, namespace) = (stranger.name_any(), stranger.namespace());
        let takes = |model: &PredictorModel| {
            let csv = model.spec.train.data.csv.as_ref();
            let source = csv.and_then(|csv| csv.source.config_map.as_ref());
            model.namespace() == namespace && source.is_some_and(|source| source.name == name)
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

    /// The names in the store and the names that were told as unreadable, after these events.
    async fn after(
        writers: Writers,
        events: Vec<Event<DeserializeGuard<PredictorModel>>>,
    ) -> (Stores, Vec<String>, Vec<String>) {
        let (models, _models) = mpsc::channel(WAITING_MAX);
        let (namespaces, _namespaces) = mpsc::channel(WAITING_MAX);
        let (unreadable, mut told) = mpsc::channel(WAITING_MAX);
        let desk =
            Desk { stores: writers.stores(), sources: Sources::default(), models, namespaces, unreadable };
        let (stores, metrics) = (writers.stores(), Metrics::register(&Registry::new()).unwrap());
        follow_models(iter(events.into_iter().map(Ok)), writers.models, desk, metrics).await;
        let mut names: Vec<_> = stores.models.state().iter().map(|model| model.name_any()).collect();
        names.sort_unstable();
        let mut unread = Vec::new();
        while let Ok(faulty) = told.try_recv() {
            unread.push(faulty.metadata.name.unwrap_or_default());
        }
        (stores, names, unread)
    }

    #[tokio::test]
    async fn one_model_that_cannot_be_decoded_hides_no_other() {
        let (good, bad) = (model("good", "Accuracy"), model("bad", "R2"));
        assert!(good.0.is_ok() && bad.0.is_err());
        let listed = vec![
            Event::Init,
            Event::InitApply(bad.clone()),
            Event::InitApply(good.clone()),
            Event::InitDone,
            Event::Apply(bad.clone()),
            Event::Apply(model("later", "Accuracy")),
        ];
        let (stores, names, told) = Box::pin(after(Writers::default(), listed)).await;
        assert_eq!(names, ["good", "later"]);
        assert_eq!(told, ["bad"], "it is told once");
        assert!(stores.has_models("shop"));
    }

    #[tokio::test]
    async fn what_was_last_read_of_a_model_stays_until_it_is_deleted() {
        let listed = |last: Option<Event<_>>| {
            let first = [Event::Init, Event::InitApply(model("iris", "Accuracy")), Event::InitDone];
            first.into_iter().chain([Event::Apply(model("iris", "R2"))]).chain(last).collect::<Vec<_>>()
        };
        let (stores, names, told) = Box::pin(after(Writers::default(), listed(None))).await;
        assert_eq!(
            (names, told, stores.unreadable.len()),
            (vec!["iris".to_owned()], vec!["iris".to_owned()], 1)
        );
        let deleted = Event::Delete(model("iris", "R2"));
        let (stores, names, _) = Box::pin(after(Writers::default(), listed(Some(deleted)))).await;
        assert_eq!((names, stores.unreadable.len()), (vec![], 0));
        assert!(!stores.has_models("shop"));
        let mended = Event::Apply(model("iris", "Accuracy"));
        let (stores, names, _) = Box::pin(after(Writers::default(), listed(Some(mended)))).await;
        assert_eq!((names, stores.unreadable.len()), (vec!["iris".to_owned()], 0));
    }
}
