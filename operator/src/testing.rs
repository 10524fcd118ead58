//! Tests of whole reconciles against a fake API server in memory.
//!
//! Tests against real clusters check that the fake behaves like Kubernetes where it matters.

pub(crate) mod fake_cluster;
pub(crate) mod fake_api_server;
pub(crate) mod harness;
mod added_fields;
mod blocked;
mod revision_changes;
mod crashes;
mod endpoints;
mod watched_namespaces;
mod network_policies;
mod pod_template;
mod leader_election;
mod namespaces;
mod conditions;
mod imported;
mod recovery;
mod unmanaged;
mod tenants;
mod upgrades;
mod watch_requests;
mod traces;
mod undecodable;
