//! The gateway from outside: its public API, before predictors of every kind, good and bad.
//!
//! Comes in: requests, and predictors that a test scripts. Goes out: whether people and programs are answered
//! as promised. Never: a socket beyond loopback, nor a wait without a deadline.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod predictor;
mod gateway;
mod api;
mod input;
mod upstream;
mod connections;
mod revisions;
mod database;
mod feedback;
mod recording;
mod server;
mod together;
mod telling;
mod sockets;
mod process;
mod dns;
mod cluster;
mod discovery;
mod names;
mod failover;
mod silence;
mod overload;
mod switch;
mod listing;
mod trust;
