//! Stores of watched objects, filled by the watches.

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

/// The stores of all watched kinds.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Models.
    pub models: Store<PredictorModel>,
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// `ControllerRevision`s with snapshots.
    pub controller_revisions: Store<ControllerRevision>,
    /// Metadata of the `ConfigMap`s of the operator. Their content, up to 1 MiB each, decides nothing and is not
    /// cached.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Services, including discovery Services.
    pub services: Store<Service>,
    /// `EndpointSlice`s of those Services.
    pub slices: Store<EndpointSlice>,
    /// `PodDisruptionBudget`s.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// `NetworkPolicies`.
    pub network_policies: Store<NetworkPolicy>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Models that cannot be decoded.
    pub undecodable: UndecodableModels,
}

/// Writers of the stores.
#[derive(Debug, Default)]
pub struct Writers {
    /// Models.
    pub models: Writer<PredictorModel>,
    /// Deployments.
    pub deployments: Writer<Deployment>,
    /// `ControllerRevision`s.
    pub controller_revisions: Writer<ControllerRevision>,
    /// Metadata of `ConfigMap`s.
    pub config_maps: Writer<PartialObjectMeta<ConfigMap>>,
    /// Services.
    pub services: Writer<Service>,
    /// `EndpointSlice`s.
    pub slices: Writer<EndpointSlice>,
    /// `PodDisruptionBudget`s.
    pub disruption_budgets: Writer<PodDisruptionBudget>,
    /// `NetworkPolicies`.
    pub network_policies: Writer<NetworkPolicy>,
    /// Pods.
    pub pods: Writer<Pod>,
    /// Models that cannot be decoded.
    pub undecodable: UndecodableModels,
}

impl Writers {
    /// The stores, for reading.
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

/// A kind of child.
pub trait Child:
    kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + 'static
{
    /// The object as last observed.
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
    /// Waits until each store was filled once. Before, a missing object may only not have been observed.
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

    /// The objects of the model with this uid in this namespace. A label alone proves nothing, because anyone who may
    /// write an object can set it.
    pub fn of_model(&self, namespace: &str, uid: &str) -> Objects {
        Objects {
            deployments: of_model(&self.deployments, namespace, uid, is_own),
            controller_revisions: of_model(&self.controller_revisions, namespace, uid, is_own),
            config_maps: of_model(&self.config_maps, namespace, uid, is_own),
            services: of_model(&self.services, namespace, uid, is_own),
            // EndpointSlices are owned by Services; they only affect the status.
            slices: of_model(&self.slices, namespace, uid, |_, _| true),
            // Pods are owned by ReplicaSets; `ObservedState` checks that they belong to a Deployment of the model.
            pods: of_model(&self.pods, namespace, uid, |_, _| true),
        }
    }

    /// The child `name` as last observed.
    pub fn child<K: Child>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        K::cached(self, &ObjectRef::new(name).within(namespace))
    }

    /// The model with this uid.
    pub fn model(&self, uid: &str) -> Option<Arc<PredictorModel>> {
        self.models.find(|model| model.metadata.uid.as_deref() == Some(uid))
    }

    /// Whether a namespace has models that are not being deleted.
    pub fn has_models(&self, namespace: &str) -> bool {
        let is_kept = |model: &PredictorModel| model.metadata.deletion_timestamp.is_none();
        let is_here = |model: &PredictorModel| model.metadata.namespace.as_deref() == Some(namespace);
        self.models.find(|model| is_here(model) && is_kept(model)).is_some()
            || self.undecodable.has_models(namespace)
    }
}

fn of_model<K: kube::Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    namespace: &str,
    uid: &str,
    is_own: fn(&ObjectMeta, &str) -> bool,
) -> Vec<Arc<K>> {
    store.state_filter(|object| {
        let has_uid = object.labels().get(MODEL_UID).is_some_and(|found| found == uid);
        has_uid && object.meta().namespace.as_deref() == Some(namespace) && is_own(object.meta(), uid)
    })
}

/// Whether an object with the uid of a model is controlled by it, or has no controller.
fn is_own(metadata: &ObjectMeta, uid: &str) -> bool {
    let owners = metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    controller.is_none_or(|owner| owner.uid == uid)
}
