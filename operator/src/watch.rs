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
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::condition;
use crate::labels::{MANAGED_BY, MANAGER, MODEL_UID};
use crate::metrics::Metrics;
use crate::sources::Sources;
use crate::stores::{Stores, Writers};

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
}

/// Where news goes.
#[derive(Clone)]
struct Desk {
    stores: Stores,
    sources: Sources,
    models: mpsc::Sender<ModelRef>,
    namespaces: mpsc::Sender<String>,
}

/// Starts all watches; they end with the process.
pub fn start(client: &Client, writers: Writers, sources: Sources, metrics: Metrics) -> News {
    let (models, model_news) = mpsc::channel(WAITING_MAX);
    let (namespaces, namespace_news) = mpsc::channel(WAITING_MAX);
    let desk = Desk { stores: writers.stores(), sources, models, namespaces };
    let Writers { models, deployments, snapshots, config_maps, services, budgets, policies, pods } = writers;

    let all_models = watch(Api::all(client.clone()), Config::default());
    tokio::spawn(follow_models(all_models, models, desk.clone(), metrics));
    tokio::spawn(follow(own::<Deployment>(client), deployments, desk.clone(), |_| {}));
    tokio::spawn(follow(own(client), snapshots, desk.clone(), pack));
    tokio::spawn(follow(own(client), config_maps, desk.clone(), |_| {}));
    tokio::spawn(follow(own::<Service>(client), services, desk.clone(), |_| {}));
    tokio::spawn(follow(own(client), budgets, desk.clone(), |_| {}));
    tokio::spawn(follow(own(client), policies, desk.clone(), |_| {}));
    tokio::spawn(follow(own(client), pods, desk.clone(), drop_spec));
    let strangers = Config::default().labels(&format!("!{MODEL_UID}")).page_size(STRANGERS_PER_PAGE);
    tokio::spawn(follow_strangers(watch(Api::all(client.clone()), strangers), desk));
    News { models: model_news, namespaces: namespace_news }
}

fn own<K>(client: &Client) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let own = Config::default().labels(&format!("{MANAGED_BY}={MANAGER}")).page_size(OWN_PER_PAGE);
    watch(Api::all(client.clone()), own)
}

async fn follow_models(
    events: impl Stream<Item = watcher::Result<Event<PredictorModel>>> + Send + 'static,
    mut writer: Writer<PredictorModel>,
    desk: Desk,
    metrics: Metrics,
) {
    let mut events = std::pin::pin!(told(events));
    while let Some(event) = events.next().await {
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
    let ready = models.iter().map(|model| model.status.as_ref().and_then(condition::ready_of));
    let (mut yes, mut no, mut unknown) = (0, 0, 0);
    for condition in ready {
        match condition.map(|condition| condition.status.as_str()) {
            Some("True") => yes += 1,
            Some(_) => no += 1,
            None => unknown += 1,
        }
    }
    metrics.models(yes, no, unknown);
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

impl Desk {
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
