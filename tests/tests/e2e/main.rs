//! Canopy on a real cluster: what people do with it, by the commands they use.
//!
//! Comes in: `KUBECONFIG`, a cluster by kind that has Canopy's images, its `docker`, `kubectl` and `helm`. Goes out: one outcome per promise,
//! with evidence where one is not kept. Never: a namespace that two tests share; a test that changes what others
//! stand on runs alone.

mod canopy;
mod watch;
mod model;
mod files;
mod asking;
mod audit;
mod front;
mod strike;

mod serving;
mod scaling;
mod revisions;
mod trouble;
mod sources;
mod blocked;
mod endpoints;
mod refusals;
mod tenants;
mod leading;
mod installations;
mod installing;
mod idle;
mod growth;
mod large_data;
mod monitoring;
mod networks;
mod rendering;
mod rights;
mod unbroken;
