//! The predictor from outside: its routes, its files, its sockets, its binary.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says why by panicking"
)]

mod harness;
mod reference;
mod prepare;
mod artifact;
mod imported;
mod networks;
mod client;
mod serve;
mod binary;
mod file_server;
mod download;
mod sources;
mod kept;
mod routes;
mod overload;
mod lines;
