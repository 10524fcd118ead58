//! The harness of the tests of whole processes: programs as they ship, a load generator, and access to a cluster.
//!
//! No process, port or file outlives its test.

pub mod slice;
pub mod wait;
pub mod report;
pub mod load;
pub mod programs;
pub mod process;
pub mod collector;
pub mod fake_predictor;
pub mod http;
pub mod metrics;
pub mod test_server;
pub mod tls;
pub mod webhook;
pub mod cleanup;
pub mod kubernetes;
pub mod api;
pub mod namespace;
pub mod forward;
pub mod pod_list;
pub mod prometheus;
pub mod jaeger;
pub mod trace_store;
pub mod postgres;
