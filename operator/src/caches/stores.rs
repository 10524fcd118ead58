//! The objects that the watches last saw.
//!
//! Comes in: nothing; whoever watches fills them. Goes out: the objects of one model, and single ones by name.
//! Never: a call.

use std::sync::Arc;

use canopy_resource::model::PredictorModel;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::caches::undecodable::UndecodableModels;
use crate::labels::MODEL_UID;
use crate::state::Objects;

/// Everything that is watched with a store.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The models.
    pub models: Store<PredictorModel>,
    /// Their Deployments.
    pub deployments: Store<Deployment>,
    /// What their revisions are made from.
    pub controller_revisions: Store<ControllerRevision>,
    /// The metadata of their own `ConfigMap`s: each may hold a megabyte, and nothing is decided by their content.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Their Services, and those that list all models of a namespace.
    pub services: Store<Service>,
    /// Which pods clients of those Services find.
    pub slices: Store<EndpointSlice>,
    /// Their budgets.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// Their `NetworkPolicies`.
    pub network_policies: Store<NetworkPolicy>,
    /// Their pods.
    pub pods: Store<Pod>,
    /// The models that cannot be decoded.
    pub undecodable: UndecodableModels,
}

/// The writing ends of [`Stores`].
#[derive(Debug, Default)]
pub struct Writers {
    /// Of the models.
    pub models: Writer<PredictorModel>,
    /// Of the Deployments.
    pub deployments: Writer<Deployment>,
    /// Of the snapshots.
    pub controller_revisions: Writer<ControllerRevision>,
    /// Of the `ConfigMap`s.
    pub config_maps: Writer<PartialObjectMeta<ConfigMap>>,
    /// Of the Services.
    pub services: Writer<Service>,
    /// Of the `EndpointSlice`s.
    pub slices: Writer<EndpointSlice>,
    /// Of the budgets.
    pub disruption_budgets: Writer<PodDisruptionBudget>,
    /// Of the `NetworkPolicies`.
    pub network_policies: Writer<NetworkPolicy>,
    /// Of the pods.
    pub pods: Writer<Pod>,
    /// Of the models that cannot be decoded.
    pub undecodable: UndecodableModels,
}

impl Writers {
    /// The reading ends.
    pub fn stores(&self) -> Stores {
        let Self {
            models,
            deployments,
            controller_revisions,
            config_maps,
            services,
            slices,
            disruption_budgets,
            network_policies,
            pods,
            undecodable,
        } = self;
        Stores {
            models: models.as_reader(),
            deployments: deployments.as_reader(),
            controller_revisions: controller_revisions.as_reader(),
            config_maps: config_maps.as_reader(),
            services: services.as_reader(),
            slices: slices.as_reader(),
            disruption_budgets: disruption_budgets.as_reader(),
            network_policies: network_policies.as_reader(),
            pods: pods.as_reader(),
            undecodable: undecodable.clone(),
        }
    }
}

/// A kind of object that a model owns.
pub trait Child:
    kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + 'static
{
    /// The object, as it was last seen.
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>>;
}

impl Child for Deployment {
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>> {
        stores.deployments.get(name)
    }
}

impl Child for ControllerRevision {
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>> {
        stores.controller_revisions.get(name)
    }
}

/// Without its content.
impl Child for ConfigMap {
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>> {
        let name = ObjectRef::new(&name.name).within(name.namespace.as_deref().unwrap_or_default());
        let seen = stores.config_maps.get(&name)?;
        Some(Arc::new(Self { metadata: seen.metadata.clone(), ..Self::default() }))
    }
}

impl Child for Service {
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>> {
        stores.services.get(name)
    }
}

impl Child for PodDisruptionBudget {
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>> {
        stores.disruption_budgets.get(name)
    }
}

impl Child for NetworkPolicy {
    fn cached(stores: &Stores, name: &ObjectRef<Self>) -> Option<Arc<Self>> {
        stores.network_policies.get(name)
    }
}

impl Stores {
    /// Returns when every store has been filled once: before, what is not there may only not have been seen.
    pub async fn wait_until_ready(&self) -> Result<(), kube::runtime::reflector::store::WriterDropped> {
        let Self {
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
        } = self;
        models.wait_until_ready().await?;
        deployments.wait_until_ready().await?;
        controller_revisions.wait_until_ready().await?;
        config_maps.wait_until_ready().await?;
        services.wait_until_ready().await?;
        slices.wait_until_ready().await?;
        disruption_budgets.wait_until_ready().await?;
        network_policies.wait_until_ready().await?;
        pods.wait_until_ready().await
    }

    /// The objects of the model with this uid in this namespace. A label alone proves nothing: whoever may write an object
    /// anywhere in the cluster can put it there.
    pub fn of_model(&self, namespace: &str, uid: &str) -> Objects {
        let own = (namespace, uid);
        Objects {
            deployments: of_model(&self.deployments, own, is_own),
            controller_revisions: of_model(&self.controller_revisions, own, is_own),
            config_maps: of_model(&self.config_maps, own, is_own),
            services: of_model(&self.services, own, is_own),
            // These belong to Services, and decide nothing.
            slices: of_model(&self.slices, own, |_, _| true),
            // These belong to ReplicaSets: whether to one of the model's is looked at where their Deployment is known.
            pods: of_model(&self.pods, own, |_, _| true),
        }
    }

    /// The child `name`, as it was last seen.
    pub fn child<K: Child>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        K::cached(self, &ObjectRef::new(name).within(namespace))
    }

    /// The model with this uid.
    pub fn model(&self, uid: &str) -> Option<Arc<PredictorModel>> {
        self.models.find(|model| model.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether a namespace has a model that is to stay.
    pub fn has_models(&self, namespace: &str) -> bool {
        let is_kept = |model: &PredictorModel| model.metadata.deletion_timestamp.is_none();
        let is_here = |model: &PredictorModel| model.metadata.namespace.as_deref() == Some(namespace);
        self.models.find(|model| is_here(model) && is_kept(model)).is_some()
            || self.undecodable.has_models(namespace)
    }
}

fn of_model<K: kube::Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    (namespace, uid): (&str, &str),
    is_own: fn(&ObjectMeta, &str) -> bool,
) -> Vec<Arc<K>> {
    store.state_filter(|object| {
        let has_uid = object.labels().get(MODEL_UID).is_some_and(|found| found == uid);
        has_uid && object.meta().namespace.as_deref() == Some(namespace) && is_own(object.meta(), uid)
    })
}

/// Whether an object that carries the uid of a model is controlled by it, or has only lost its reference.
fn is_own(metadata: &ObjectMeta, uid: &str) -> bool {
    let owners = metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    controller.is_none_or(|owner| owner.uid == uid)
}
