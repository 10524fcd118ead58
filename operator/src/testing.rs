//! A cluster in memory, for tests of whole passes: an API server, and pods that do as they are told.
//!
//! Comes in: manifests, edits, the fate of each revision. Goes out: the objects, and every write in order. Never:
//! a network, a clock, a thread; the tests beside real clusters show that this one tells no lies.

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
mod recovery;
mod unmanaged;
mod tenants;
mod upgrades;
mod watch_requests;
mod traces;
mod undecodable;
