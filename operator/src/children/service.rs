//! The Services of a model, and the one that lists all models of a namespace.
//!
//! Comes in: the revision that serves. Goes out: Services. Never: a selector that fits two revisions.

use std::collections::BTreeMap;

use canopy_contract::names::{CATALOGUE_SERVICE, PORT_NAME, PREDICTOR_PORT};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::children::meta::OwnerInfo;
use crate::labels::{self, Labels, RETIRED};
use crate::revision::retirement::{self, Retired};

/// Where clients inside the cluster reach a model.
const STABLE_PORT: u16 = 80;
const HEADLESS: &str = "None";

/// A stable address for clients inside the cluster; as long as it is there, the model exists.
pub fn stable(owner: OwnerInfo<'_>, revision: &str) -> Service {
    let metadata = owner.child(owner.name.stable_service(), owner.labels(), BTreeMap::new());
    Service { metadata, spec: Some(spec(owner.pods_of(revision), STABLE_PORT, None)), ..Service::default() }
}

/// What the gateway asks for the addresses of pods. It also says which revisions no longer serve, and since
/// when: this stands beside the selector because both must change at once.
pub fn endpoints(owner: OwnerInfo<'_>, revision: &str, retired: &Retired) -> Service {
    let stamp = (!retired.is_empty()).then(|| (RETIRED.to_owned(), retirement::as_text(retired)));
    let metadata = owner.child(owner.name.endpoints_service(), owner.labels(), stamp.into_iter().collect());
    let spec = spec(owner.pods_of(revision), PREDICTOR_PORT, Some(HEADLESS));
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// What the gateway asks which models a namespace has. It belongs to no single model.
pub fn discovery() -> Service {
    let metadata = ObjectMeta {
        name: Some(CATALOGUE_SERVICE.to_owned()),
        labels: Some(labels::of_discovery_service()),
        ..ObjectMeta::default()
    };
    let spec = spec(labels::pods_of_any_model(), PREDICTOR_PORT, Some(HEADLESS));
    Service { metadata, spec: Some(spec), ..Service::default() }
}

fn spec(selector: Labels, port: u16, cluster_ip: Option<&str>) -> ServiceSpec {
    ServiceSpec {
        selector: Some(selector),
        cluster_ip: cluster_ip.map(str::to_owned),
        ports: Some(vec![ServicePort {
            name: Some(PORT_NAME.to_owned()),
            port: port.into(),
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    }
}
