//! What the tests of whole processes share: programs as they ship, and what stands around them.
//!
//! Comes in: the sources. Goes out: running processes and what can be asked of them. Never: a process, a port
//! or a file that outlives its test.

pub mod slice;
pub mod wait;
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
pub mod kubernetes;
pub mod namespace;
pub mod forward;
pub mod pod_list;
pub mod prometheus;
pub mod jaeger;
pub mod trace_store;
pub mod postgres;
