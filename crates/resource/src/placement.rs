//! Resources and scheduling of a model's pods.
//!
//! The inner types are those of Kubernetes, with bounds added and descriptions removed to keep the CRD small.
#![expect(unreachable_pub, reason = "the derived schemas repeat the public types inside functions")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const ENTRIES_MAX: u32 = 32;
const TEXT_MAX: u32 = 1024;
/// A quantity with an optional SI or binary suffix; the rarer forms of Kubernetes are not accepted.
const AMOUNT_PATTERN: &str = r"^[0-9]+(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";
const AMOUNT_MAX: u32 = 24;
const PRIORITY_CLASS_MAX: u32 = 253;
const PRIORITY_CLASS_PATTERN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// Resources of a container.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler reserves on a node, such as {cpu: 100m, memory: 128Mi}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "amounts")]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// The maximum that the container may use. It is throttled at its CPU limit, and killed above its memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "amounts")]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

impl From<Resources> for ResourceRequirements {
    fn from(Resources { requests, limits }: Resources) -> Self {
        Self { requests, limits, claims: None }
    }
}

/// On which nodes pods run, as in the spec of a pod.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have; see kubectl explain pod.spec.nodeSelector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::<BTreeMap<String, String>>")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that the pods tolerate; see kubectl explain pod.spec.tolerations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::<Vec<Toleration>>")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Affinity and anti-affinity to nodes and other pods; see kubectl explain pod.spec.affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::<Affinity>")]
    pub affinity: Option<Affinity>,
    /// The priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "String",
        length(min = 1, max = PRIORITY_CLASS_MAX),
        regex(pattern = PRIORITY_CLASS_PATTERN)
    )]
    pub priority_class_name: Option<String>,
    /// How pods are spread over nodes or zones; see kubectl explain
    /// pod.spec.topologySpreadConstraints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::<Vec<TopologySpreadConstraint>>")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
}

fn amounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": ENTRIES_MAX,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "pattern": AMOUNT_PATTERN,
            "maxLength": AMOUNT_MAX,
        },
    })
}

/// The schema of a Kubernetes type, with bounds.
fn embedded<T: JsonSchema>(_: &mut SchemaGenerator) -> Schema {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Value::Object(members) = &mut schema {
        members.remove("$schema");
        members.remove("title");
        bound(members);
    }
    schema.try_into().unwrap_or_default()
}

fn bound(schema: &mut Map<String, Value>) {
    // These lists are replaced as a whole, and their documentation is that of the Kubernetes types.
    schema.retain(|word, _| word != "description" && !word.starts_with("x-kubernetes-"));
    let limit = match schema.get("type").and_then(Value::as_str) {
        Some("array") => Some(("maxItems", ENTRIES_MAX.into())),
        Some("string") => Some(("maxLength", TEXT_MAX.into())),
        Some("integer") => Some(("maximum", i32::MAX.into())),
        Some("object") if !schema.contains_key("properties") => Some(("maxProperties", ENTRIES_MAX.into())),
        Some(_) | None => None,
    };
    schema.extend(limit.map(|(word, value): (&str, Value)| (word.to_owned(), value)));
    for below in ["items", "additionalProperties"] {
        if let Some(Value::Object(schema)) = schema.get_mut(below) {
            bound(schema);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(bound);
    }
}
