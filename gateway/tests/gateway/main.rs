//! Tests of the gateway's public API with fake predictors and a fake DNS on loopback. Every wait has a deadline.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

mod fake_predictor;
mod gateway;
mod api;
mod input;
mod named_rows;
mod bad_predictors;
mod connection_reuse;
mod new_revision;
mod database;
mod feedback;
mod recording;
mod database_server;
mod shared_database;
mod telemetry;
mod sockets;
mod memory;
mod process;
mod fake_dns;
mod cluster;
mod discovery;
mod model_lookup;
mod failover;
mod hedging;
mod overload;
mod revision_change;
mod listing;
mod consistency;
