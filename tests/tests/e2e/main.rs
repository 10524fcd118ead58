//! Canopy on a real cluster: what people do with it, by the commands they use.
//!
//! Comes in: `KUBECONFIG`, a cluster by kind that has Canopy's images, its `docker`, `kubectl` and `helm`. Goes out: one outcome per promise,
//! with evidence where one is not kept. Never: a namespace that two tests share; a test that changes what others
//! stand on runs alone.

mod canopy;
mod watch;
mod model;
mod files;
mod steady_client;
mod audit;
mod test_gateways;
mod signals;

mod serving;
mod scaling;
mod revisions;
mod failures;
mod data_sources;
mod admission_policy;
mod endpoints;
mod crd_validation;
mod tenants;
mod leader_election;
mod second_installation;
mod install_from_files;
mod idle;
mod growth;
mod large_data;
mod monitoring;
mod network_policies;
mod chart_values;
mod rbac;
mod availability;
