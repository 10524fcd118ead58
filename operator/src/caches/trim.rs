//! Reduces watched objects to what is read of them, before they are stored.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt as _;
use serde_json::Value;

use crate::state;

/// A tree of values takes several times the memory of its text.
pub fn compact_data(controller_revision: &mut ControllerRevision) {
    let RawExtension(data) = &mut controller_revision.data;
    *data = Value::String(data.to_string());
}

/// A pod's spec follows from its Deployment; which containers there are tells it from a pod that others made.
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

/// Reduces a slice to the names of the pods that are ready endpoints.
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
