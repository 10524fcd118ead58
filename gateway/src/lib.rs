//! Canopy's gateway: a request becomes a prediction.
//!
//! Comes in: HTTP requests from people and programs. Goes out: predictions, in the words of the public API.
//! Never: a model; those live in predictors.

pub mod settings;
mod language;
mod failure;
mod versions;
mod metrics;
mod pieces;
mod upstream;
mod known;
mod answer;
mod lesson;
mod clock;
mod recent;
mod health;
mod share;
mod speed;
mod pods;
mod retries;
mod served;
mod dns;
mod standing;
mod found;
mod directory;
mod catalogue;
mod listing;
mod retire;
mod forward;
mod store;
mod tally;
mod entry;
mod writer;
mod record;
mod feedback;
pub mod app;
mod intake;
mod query;
mod edge;
pub mod routes;
pub mod serve;
