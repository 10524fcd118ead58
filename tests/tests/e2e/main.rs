//! Canopy on a real cluster, with the commands that users type.
//!
//! `KUBECONFIG` names a kind cluster that has Canopy's images. Each test has namespaces of its own; a test that changes what
//! others rely on runs alone.

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
mod imported;
mod data_sources;
mod admission_policy;
mod endpoints;
mod crd_validation;
mod tenants;
mod second_installation;
mod install_from_files;
mod operator_cost;
mod large_data;
mod monitoring;
mod network_policies;
mod operator_settings;
mod chart_values;
mod rbac;
mod availability;
