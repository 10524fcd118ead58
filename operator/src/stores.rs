//! The objects that the watches last saw.
//!
//! Comes in: nothing; whoever watches fills them. Goes out: the objects of one model, and single ones by name.
//! Never: a call.

use std::sync::Arc;

use canopy_resource::model::PredictorModel;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::labels::MODEL_UID;
use crate::observed::Objects;
use crate::unreadable::Unreadable;

/// Everything that is watched with a store.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The models.
    pub models: Store<PredictorModel>,
    /// Their Deployments.
    pub deployments: Store<Deployment>,
    /// Their own `ConfigMap`s, without copies of data.
    pub config_maps: Store<ConfigMap>,
    /// Their Services, and those that list all models of a namespace.
    pub services: Store<Service>,
    /// Their budgets.
    pub budgets: Store<PodDisruptionBudget>,
    /// Their pods.
    pub pods: Store<Pod>,
    /// The models that cannot be decoded.
    pub unreadable: Unreadable,
}

/// The writing ends of [`Stores`].
#[derive(Debug, Default)]
pub struct Writers {
    /// Of the models.
    pub models: Writer<PredictorModel>,
    /// Of the Deployments.
    pub deployments: Writer<Deployment>,
    /// Of the `ConfigMap`s.
    pub config_maps: Writer<ConfigMap>,
    /// Of the Services.
    pub services: Writer<Service>,
    /// Of the budgets.
    pub budgets: Writer<PodDisruptionBudget>,
    /// Of the pods.
    pub pods: Writer<Pod>,
    /// Of the models that cannot be decoded.
    pub unreadable: Unreadable,
}

impl Writers {
    /// The reading ends.
    pub fn stores(&self) -> Stores {
        let Self { models, deployments, config_maps, services, budgets, pods, unreadable } = self;
        Stores {
            models: models.as_reader(),
            deployments: deployments.as_reader(),
            config_maps: config_maps.as_reader(),
            services: services.as_reader(),
            budgets: budgets.as_reader(),
            pods: pods.as_reader(),
            unreadable: unreadable.clone(),
        }
    }
}

/// A kind of object that a model owns.
pub trait Child:
    kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + 'static
{
    /// Its store.
    fn store(stores: &Stores) -> &Store<Self>;
}

impl Child for Deployment {
    fn store(stores: &Stores) -> &Store<Self> {
        &stores.deployments
    }
}

impl Child for ConfigMap {
    fn store(stores: &Stores) -> &Store<Self> {
        &stores.config_maps
    }
}

impl Child for Service {
    fn store(stores: &Stores) -> &Store<Self> {
        &stores.services
    }
}

impl Child for PodDisruptionBudget {
    fn store(stores: &Stores) -> &Store<Self> {
        &stores.budgets
    }
}

impl Stores {
    /// Returns when every store has been filled once: before, what is not there may only not have been seen.
    pub async fn filled(&self) -> Result<(), kube::runtime::reflector::store::WriterDropped> {
        let Self { models, deployments, config_maps, services, budgets, pods, unreadable: _ } = self;
        models.wait_until_ready().await?;
        deployments.wait_until_ready().await?;
        config_maps.wait_until_ready().await?;
        services.wait_until_ready().await?;
        budgets.wait_until_ready().await?;
        pods.wait_until_ready().await
    }

    /// The objects that carry the uid of a model.
    pub fn of_model(&self, uid: &str) -> Objects {
        Objects {
            deployments: with_uid(&self.deployments, uid),
            config_maps: with_uid(&self.config_maps, uid),
            services: with_uid(&self.services, uid),
            pods: with_uid(&self.pods, uid),
        }
    }

    /// The child `name`, as it was last seen.
    pub fn child<K: Child>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        K::store(self).get(&ObjectRef::new(name).within(namespace))
    }

    /// The model with this uid.
    pub fn model(&self, uid: &str) -> Option<Arc<PredictorModel>> {
        self.models.find(|model| model.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether a namespace has a model that is to stay.
    pub fn has_models(&self, namespace: &str) -> bool {
        let stays = |model: &PredictorModel| model.metadata.deletion_timestamp.is_none();
        let is_here = |model: &PredictorModel| model.metadata.namespace.as_deref() == Some(namespace);
        self.models.find(|model| is_here(model) && stays(model)).is_some()
            || self.unreadable.has_models(namespace)
    }
}

fn with_uid<K: kube::Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    uid: &str,
) -> Vec<Arc<K>> {
    store.state_filter(|object| object.labels().get(MODEL_UID).is_some_and(|found| found == uid))
}
