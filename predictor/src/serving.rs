//! `serve`: an artifact is checked and then answers requests.

pub mod admission;
pub mod served_model;
pub mod app;
pub mod routes;
pub mod self_test;
pub mod server;
