//! The first users: what a new database begins with, and what is told where there is no database.
//!
//! Comes in: nothing. Goes out: Alice and Bob. Never: anything that depends on when or where.

/// Ids, names and addresses.
pub(super) const SEED: [(i64, &str, &str); 2] = [(1, "Alice", "alice@test.com"), (2, "Bob", "bob@test.com")];
