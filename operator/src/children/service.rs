//! The Services of a model, and the discovery Service of a namespace. A selector never matches two revisions.

use std::collections::BTreeMap;

use canopy_contract::names::{CATALOGUE_SERVICE, PORT_NAME, PREDICTOR_PORT};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::children::meta::OwnerInfo;
use crate::labels::{self, Labels, RETIRED};
use crate::revision::retirement::{self, Retired};

/// Port of the stable Service.
const STABLE_PORT: u16 = 80;
const HEADLESS: &str = "None";

/// The Service for clients inside the cluster. A model exists as long as this Service exists.
pub fn stable(owner: OwnerInfo<'_>, revision: &str) -> Service {
    let metadata = owner.child(owner.name.stable_service(), owner.labels(), BTreeMap::new());
    Service { metadata, spec: Some(spec(owner.pods_of(revision), STABLE_PORT, None)), ..Service::default() }
}

/// The headless Service through which gateways discover pods. Its annotation lists the revisions that no longer
/// serve, because annotation and selector must change in one write.
pub fn endpoints(owner: OwnerInfo<'_>, revision: &str, retired: &Retired) -> Service {
    let stamp = (!retired.is_empty()).then(|| (RETIRED.to_owned(), retirement::as_text(retired)));
    let metadata = owner.child(owner.name.endpoints_service(), owner.labels(), stamp.into_iter().collect());
    let spec = spec(owner.pods_of(revision), PREDICTOR_PORT, Some(HEADLESS));
    Service { metadata, spec: Some(spec), ..Service::default() }
}

/// The discovery Service, through which gateways list the models of a namespace. No model owns it.
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
