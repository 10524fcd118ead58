//! Removes unused fields from watched objects before they are cached.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt as _;
use serde_json::Value;

use crate::state;

/// Replaces the data by its JSON text: parsed values take several times the memory of their text.
pub fn compact_data(controller_revision: &mut ControllerRevision) {
    let RawExtension(data) = &mut controller_revision.data;
    *data = Value::String(data.to_string());
}

/// Reduces a pod's spec to the names of its containers, which distinguish it from a pod that the operator's Deployments
/// did not create.
pub fn trim_pod_spec(pod: &mut Pod) {
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

/// Reduces a slice to the pod names of its ready endpoints.
pub fn trim_slice(slice: &mut EndpointSlice) {
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
