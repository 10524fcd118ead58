//! A cluster in memory, for tests of whole passes: an API server, and pods that do as they are told.
//!
//! Comes in: manifests, edits, the fate of each revision. Goes out: the objects, and every write in order. Never:
//! a network, a clock, a thread; the tests beside real clusters show that this one tells no lies.

pub(crate) mod world;
pub(crate) mod server;
pub(crate) mod bench;
mod additions;
mod blocked;
mod changes;
mod crashes;
mod endpoints;
mod networks;
mod pods;
mod leading;
mod namespaces;
mod statuses;
mod recovery;
mod strangers;
mod tenants;
mod upgrades;
mod lists;
mod traces;
mod unreadable;
